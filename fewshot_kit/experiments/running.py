"""Runs training from settings, for `fewshot-kit train` and for the tables of results."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import algorithms, datasets, models
from ..algorithms import Algorithm
from ..datasets import Data
from ..datasets.splits.contract import LabelledSplit, TaskSplit
from ..datasets.splits.recorded import as_recorded
from ..engines import Processes
from ..options import check_options, options_of
from ..runs.checkpoints import read_run, read_state, state_path
from ..runs.config import read_config
from ..seeds import default_draws
from ..training.hooks import Hooks
from ..training.outer_loop import train_by
from ..training.state import TrainingResult
from .settings import fitting, from_recipe
from .train_config import TrainConfig


def create(room: Any, name: str, options: dict[str, Any], **more: Any) -> Any:
    """Returns what a registry makes with a user's options, after a check of these options."""
    check_options(room.get(name), options, f"'{name}'")
    return room.create(name, **options, **more)


def own_images(config: TrainConfig) -> datasets.Transform | None:
    """Returns the transform of the images that a network with weights was trained on, with the data set's channels."""
    takes = options_of(datasets.get(config.dataset)).parameters
    channels = {"channels": takes["channels"].default} if "channels" in takes else {}
    given = {"channels": config.dataset_options["channels"]} if "channels" in config.dataset_options else {}
    return models.images_for(config.model, **channels | config.model_options | given)


def made_to_fit(config: TrainConfig, images: datasets.Transform | None) -> dict[str, Any]:
    """Returns the options of the data set. Photos are decoded as `images` says, unless the config's options differ."""
    photos = "deviation" in options_of(datasets.get(config.dataset)).parameters
    return (models.as_options(images) if images and photos else {}) | config.dataset_options


def make(config: TrainConfig, going_on: bool = False) -> tuple[Data[TaskSplit], Algorithm]:
    """Returns the data set, and the algorithm with a network whose sizes fit the data and the task.

    Args:
        going_on: the weights are in the checkpoint of a run, and those that the network started from may be gone; the
            data set is split into the classes that the run recorded.
    """
    check_options(models.get(config.model), config.model_options, f"'{config.model}'")
    data: Data[TaskSplit] = create(datasets, config.dataset, made_to_fit(config, own_images(config)))
    if going_on:
        data = as_trained(data, config.folder())
    sizes = fitting({"ways": config.ways, "seed": config.seed}, data.train.example_shape)
    takes = options_of(models.get(config.model)).parameters
    fitted = {name: value for name, value in sizes.items() if name in takes}
    with models.filled_later() if going_on else contextlib.nullcontext():
        model = create(models, config.model, fitted | config.model_options)
    counted = {"classes": len(data.train.classes)} if isinstance(data.train, LabelledSplit) else {}
    takes = options_of(algorithms.get(config.algorithm)).parameters
    fitted = {name: value for name, value in counted.items() if name in takes}
    with default_draws(config.seed, "algorithm"):  # for modules of the algorithm's own
        algorithm = create(algorithms, config.algorithm, fitted | config.algorithm_options, model=model)
    if going_on and "batch_norm" not in config.algorithm_options:  # the default may depend on weights not loaded yet
        algorithm.batch_norm = read_config(config.folder()).get("batch_norm")
    return data, algorithm


def train(
    config: TrainConfig,
    resume: bool = False,
    progress: bool = True,
    hooks: Sequence[Hooks] = (),
    accept_edited: bool = False,
) -> tuple[Data[TaskSplit], Algorithm, TrainingResult]:
    """Meta-trains in the run folder. If `init` names an algorithm, that algorithm is trained first.

    Returns:
        The data set, the trained algorithm, and the result of `meta_train`.
    """
    processes = Processes.current()
    folder = config.folder()
    going_on = processes.agreed(lambda: resume and state_path(folder).exists())
    data, algorithm = make(config, going_on)
    data.test.check(config.test_ways or config.ways, config.shots, config.test_queries)
    first = earlier(config)
    init = str(first.folder()) if first else config.init or None
    if first and not going_on and not processes.agreed(lambda: finished(first.folder())):
        if progress and processes.leads:
            print(f"{config.algorithm} starts from {config.init}, trained first in {init}", file=sys.stderr)
        train(first, resume=processes.agreed(lambda: begun(first.folder())), progress=progress)
    settings = dataclasses.replace(config.training(), init=init)
    if init and not going_on and begun(init):
        warn_of_known(data.test, init, config)
    training = train_by(
        settings, algorithm, data, run=folder, resume=resume, accept_edited=accept_edited, device=config.device,
        progress=progress, hooks=hooks,
    )  # fmt: skip
    return data, algorithm, training


def as_trained(data: Data[TaskSplit], run: str | Path) -> Data[TaskSplit]:
    """A data set with its classes in training, validation and test as in a run (`as_recorded`); says what changed."""
    recorded = (read_config(run).get("data") or {}).get("classes") or {}
    data, said = as_recorded(data, recorded, run)
    if said and Processes.current().leads:
        print(f"fewshot-kit: {said}", file=sys.stderr)
    return data


def warn_of_known(split: TaskSplit, run: str | Path, config: TrainConfig) -> None:
    """Warns where a run was trained on classes of a split that is to be tested on.

    Classes of one name are the same where data sets have the same name and files.
    """
    known = read_config(run).get("data") or {}
    files = "root" in options_of(datasets.get(config.dataset)).parameters
    root = (known.get("options") or {}).get("root")
    if not files or known.get("name") != config.dataset or root != config.dataset_options.get("root"):
        return
    trained = set((known.get("classes") or {}).get("train", ()))
    seen = [label for label in split.classes if label in trained] if isinstance(split, LabelledSplit) else []
    if seen:
        warnings.warn(
            f"{run} was trained on {len(seen)} of the classes of {split.name} ('{seen[0]}' is one): an accuracy on "
            "them is none on unseen classes.",
            stacklevel=2,
        )


def earlier(config: TrainConfig) -> TrainConfig | None:
    """Returns the run that `init` asks for first, with the recipe of its algorithm; None if `init` names no algorithm.

    Its folder lies beside the run's own folder, so that runs with the same start share it.
    """
    if config.init not in algorithms.names():
        return None
    shared = ("dataset", "dataset_options", "model", "model_options", "seed", "device", "engine")
    asked = {name: getattr(config, name) for name in shared}
    first = TrainConfig(**from_recipe({**asked, "algorithm": config.init}))
    return with_folder(first, config.folder().parent)


def with_folder(config: TrainConfig, parent: Path) -> TrainConfig:
    """Returns the config with a run folder in `parent`, named by a hash of everything that training depends on."""
    told = config.told() | {"run": "", "test_episodes": 0}
    told["dataset_options"] = {name: value for name, value in config.dataset_options.items() if name != "root"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    name = dataclasses.replace(config, run="").folder().name
    return dataclasses.replace(config, run=str(parent / f"{name}-{digest}"))


def begun(run: str | Path) -> bool:
    """Returns whether the folder holds a run to resume."""
    return (Path(run) / "config.yaml").exists()


def finished(run: str | Path) -> bool:
    """Whether a run was trained to its end, by its last checkpoint.

    Raises:
        InputError: files of the run are damaged or were edited.
    """
    if not begun(run) or not state_path(run).exists():
        return False
    kept, training = read_state(state_path(run))[1], read_run(run).get("training")
    done = kept.get("iteration") if isinstance(kept, dict) else None
    asked = training.get("iterations") if isinstance(training, dict) else None
    return isinstance(done, int) and isinstance(asked, int) and done >= asked
