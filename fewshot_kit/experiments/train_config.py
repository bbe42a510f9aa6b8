"""The settings of `fewshot-kit train`. One dataclass, without torch: its flags, YAML files and help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..ranges import check_counts
from ..training.settings import NAMES, USUAL, TrainingSettings


def _setting(default: Any, text: str) -> Any:
    factory = (lambda: dict(default)) if isinstance(default, dict) else None
    metadata = {"help": text}
    return field(default_factory=factory, metadata=metadata) if factory else field(default=default, metadata=metadata)


@dataclass
class TrainConfig:
    """The settings of `fewshot-kit train`."""

    dataset: str = _setting("omniglot", "data set by name (`fewshot-kit list datasets`)")
    algorithm: str = _setting("maml", "algorithm by name (`fewshot-kit list algorithms`)")
    model: str = _setting("conv4", "network by name (`fewshot-kit list models`)")
    ways: int = _setting(USUAL.ways, "classes in a task")
    shots: int = _setting(USUAL.shots, "labelled examples of each class")
    queries: int = _setting(USUAL.queries, "query examples of each class")
    iterations: int = _setting(USUAL.iterations, "meta-updates; 0 tests and keeps the algorithm as it is made")
    meta_batch: int = _setting(USUAL.meta_batch, "tasks in a meta-update")
    meta_lr: float = _setting(USUAL.meta_lr, "outer loop: rate of Adam, at the start")
    schedule: str = _setting(USUAL.schedule, "how that rate goes on: constant, cosine down to 0, or warmup_cosine")
    augmentation: str = _setting(
        USUAL.augmentation, "how training images are changed at random: strokes, photos or none"
    )
    init: str = _setting("", "start from a run folder, a file of weights, or an algorithm that is trained first")
    validate_every: int = _setting(
        USUAL.validate_every, "iterations between validations, at which the best checkpoint is kept"
    )
    validation_episodes: int = _setting(USUAL.validation_episodes, "tasks in a validation")
    test_episodes: int = _setting(600, "test tasks at the end")
    test_ways: int | None = _setting(
        USUAL.validation_ways, "classes in a task of validation and test (default: as in training)"
    )
    test_queries: int = _setting(USUAL.validation_queries, "query examples of each class in validation and test")
    seed: int = _setting(USUAL.seed, "decides the tasks, their order and the initial weights")
    on_nan: str = _setting(
        USUAL.on_nan, "about a loss or gradient that is not finite: stop, or skip the update, count it and go on"
    )
    engine: str = _setting(USUAL.engine, "how a meta-batch is run: auto (measured), factored, vmap, loop, reference")
    chunk: int | None = _setting(USUAL.chunk, "engines factored, vmap: tasks at a time, to bound memory (default: all)")
    workers: int | None = _setting(
        USUAL.workers, "threads of the engines factored, loop and vmap (default: by the model and the machine)"
    )
    compile: bool = _setting(
        USUAL.compile, "engines factored, vmap: compile the meta-gradient; for small nets, and GPUs"
    )
    unfold: bool = _setting(USUAL.unfold, "engine vmap: convolutions as products of matrices; auto tries it on a GPU")
    exact: bool = _setting(USUAL.exact, "one task at a time, summed in order: the same bits for any --processes")
    device: str = _setting("cpu", "cpu, cuda or cuda:1")
    run: str = _setting("", "run folder (default: runs/DATASET-ALGORITHM-MODEL-WAYSwSHOTSs)")
    dataset_options: dict[str, Any] = _setting({}, "options of the data set, as image_size=28 rotations=none")
    algorithm_options: dict[str, Any] = _setting({}, "options of the algorithm, as lr=0.4 steps=5")
    test_options: dict[str, Any] = _setting({}, "those of them that change for validation, test and later, as steps=20")
    model_options: dict[str, Any] = _setting({}, "options of the network, as hidden=32")

    def __post_init__(self) -> None:
        ways = {} if self.test_ways is None else {"test_ways": self.test_ways}
        check_counts(test_episodes=self.test_episodes, test_queries=self.test_queries, **ways)
        self.training()

    def folder(self) -> Path:
        """Returns the run folder."""
        name = f"{self.dataset}-{self.algorithm}-{self.model.replace('/', '-')}-{self.ways}w{self.shots}s"
        return Path(self.run or f"runs/{name}")

    def told(self) -> dict[str, Any]:
        """What a hash of a run is made of: all settings but those that came later and are as usual."""
        settings = dataclasses.asdict(self).items()
        return {name: value for name, value in settings if name not in LATER or value != FIELDS[name].default}

    def training(self) -> TrainingSettings:
        """Returns the settings of `meta_train`.

        Raises:
            InputError: a setting cannot be used.
        """
        shared = {name: getattr(self, name) for name in NAMES if name in FIELDS} | {"init": self.init or None}
        return TrainingSettings(**shared, **{name: getattr(self, own) for name, own in TESTED.items()})


LATER = ("exact", "on_nan")  # hashes of runs that were made before these settings came stay as they are
FIELDS = {setting.name: setting for setting in dataclasses.fields(TrainConfig)}
TESTED = {"validation_ways": "test_ways", "validation_queries": "test_queries"}  # the trainer's names: names here
