"""The settings of `fewshot-kit train`. One dataclass defines its flags, its YAML files and its help."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import models
from ..errors import InputError, first_line
from ..options import check_settings
from ..ranges import check_counts
from ..runs.checkpoints import read_run, state_path
from ..runs.config import plain, read_config_file
from ..runs.yaml_text import read_yaml
from ..training.settings import NAMES, USUAL, TrainingSettings
from .recipes import applies, sections


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
    engine: str = _setting(USUAL.engine, "how a meta-batch is run: auto (measured), vmap, loop, reference")
    chunk: int | None = _setting(USUAL.chunk, "engine vmap: tasks at a time, to bound memory (default: all)")
    workers: int | None = _setting(
        USUAL.workers, "threads of the engines loop and vmap (default: by the model and the machine)"
    )
    compile: bool = _setting(USUAL.compile, "engine vmap: compile the meta-gradient; for small nets, and GPUs")
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
MADE = ("dataset", "algorithm", "model")  # registries make these, each with its `..._options`


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings `below`, overridden by those `above`.

    Options of both are combined. If `above` names another data set, algorithm or network, its options from `below` are
    dropped.
    """
    below, above = _named_in_full(below), _named_in_full(above)
    settings = below | above
    for kind, options in [*((kind, f"{kind}_options") for kind in MADE), ("algorithm", "test_options")]:
        if above.get(kind, below.get(kind)) == below.get(kind, above.get(kind)):
            settings[options] = below.get(options, {}) | above.get(options, {})
        else:
            settings[options] = above.get(options, {})
    return settings


def from_recipe(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the recipe of the algorithm and data set, overridden by the settings that were asked for."""
    usual = {setting.name: setting.default for setting in dataclasses.fields(TrainConfig)}
    settings: dict[str, Any] = {}
    for title, section in sections(asked.get("dataset", TrainConfig.dataset)):
        if applies(title, usual | settings | asked):
            settings = merged(settings, section)
    return merged(settings, asked)


def _named_in_full(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | ({"model": models.full_name(settings["model"])} if "model" in settings else {})


def from_file(path: str) -> dict[str, Any]:
    """Returns the settings in a YAML file, which has lines such as `ways: 5` or is the `config.yaml` of a run.

    Raises:
        InputError: there is no such file; it holds no mapping; a setting does not exist or has a value of another type.
    """
    import yaml

    try:
        content = read_yaml(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no valid YAML: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; write lines such as 'ways: 5'.")
    if "version" in content:
        return _flat(read_config_file(path), path)
    check_settings(content, {name: setting.type for name, setting in FIELDS.items()}, path)
    return content


def from_run(run: str | Path, kinds: tuple[str, ...] = MADE, accept_edited: bool = False) -> dict[str, Any]:
    """Returns the settings of the run in a folder.

    Args:
        kinds: which of data set, algorithm and model must have a registered name.
        accept_edited: take config.yaml as it is, even if it is not as the run wrote it.

    Raises:
        InputError: no run; or one that was edited, or made in Python of a class without a name.
    """
    return _flat(read_run(run, accept_edited), run, kinds) | {"run": str(run)}


def to_go_on(run: str | Path, asked: dict[str, Any], accept_edited: bool = False) -> dict[str, Any]:
    """The settings of a run that is resumed, with those that are asked for on top.

    Raises:
        InputError: as `from_run`; a run without a checkpoint, whose config.yaml names weights to start from. Somebody
            else may have made the folder, so that files are read only where a person names them.
    """
    known = from_run(run, accept_edited=accept_edited)
    if not state_path(run).exists():
        given, options = asked | asked.get("model_options", {}), known["model_options"]
        sources = {
            "init": known.get("init"),
            "weights": options.get("weights"),
            "pretrained": options.get("pretrained"),
        }
        for name, value in sources.items():
            if value and name not in given:
                flag = "--init " if name == "init" else f"--model-options {name}="
                raise InputError(
                    f"{run} has no checkpoint, and its config.yaml asks to start from {name}={value}; what it names "
                    f"is not opened: give it yourself by {flag}{value}, or train anew."
                )
    return merged(known, asked)


def _flat(config: dict[str, Any], source: str | Path, kinds: tuple[str, ...] = MADE) -> dict[str, Any]:
    """Returns the settings that make a run again, from the content of its `config.yaml`."""
    settings: dict[str, Any] = {}
    for kind in kinds:
        recipe = config.get("data" if kind == "dataset" else kind) or {}
        if "name" not in recipe:
            raise InputError(f"{source} was made in Python with a {kind} that has no name; go on with it in Python.")
        settings[kind], settings[f"{kind}_options"] = recipe["name"], dict(recipe["options"])
    training = config.get("training") or {}
    training = {TESTED.get(name, name): value for name, value in training.items()} | (config.get("test") or {})
    told = {name: value for name, value in training.items() if name in FIELDS and (name, value) != ("init", None)}
    check_settings(told, {name: setting.type for name, setting in FIELDS.items()}, str(source))
    settings |= told
    if "model" in kinds:  # sizes that follow from data set and task are left out, since these may change
        sizes = fitting(settings, (config.get("data") or {}).get("example_shape"))
        options = settings["model_options"].items()
        settings["model_options"] = {name: value for name, value in options if sizes.get(name) != value}
        # Image options that follow from a network with weights are left out too.
        channels = {"channels": sizes["channels"]} if "channels" in sizes else {}
        images = models.images_for(settings["model"], **channels | settings["model_options"])
        own = plain(models.as_options(images)) if images else {}
        options = settings["dataset_options"].items()
        settings["dataset_options"] = {name: value for name, value in options if name not in own or own[name] != value}
    return settings


def fitting(settings: dict[str, Any], example_shape: Sequence[int] | None) -> dict[str, Any]:
    """Returns the network options that follow from task and examples: ways, seed and inputs.

    For images these are channels and image_size too.
    """
    sizes: dict[str, Any] = {name: settings[name] for name in ("ways", "seed") if name in settings}
    if example_shape:
        sizes["inputs"] = math.prod(example_shape)
    if example_shape and len(example_shape) == 3:
        sizes |= {"channels": example_shape[0], "image_size": max(example_shape[1:])}
    return sizes
