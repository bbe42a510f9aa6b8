"""A training run from its settings: what `fewshot-kit train` and the tables of figures both do."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import algorithms, datasets, models
from ..algorithms import Algorithm
from ..datasets import Data
from ..datasets.splits.contract import LabelledSplit, TaskSplit
from ..engines import Processes
from ..options import check_options, options_of
from ..runs.checkpoints import state_path
from ..runs.config import read_config
from ..seeds import default_draws
from ..training.hooks import Hooks
from ..training.outer_loop import train_by
from ..training.state import TrainingResult
from .settings import TrainConfig, fitting, from_recipe


def create(room: Any, name: str, options: dict[str, Any], **more: Any) -> Any:
    """What a registry makes, with options that a person gave: they are checked first."""
    check_options(room.get(name), options, f"'{name}'")
    return room.create(name, **options, **more)


def own_images(config: TrainConfig) -> datasets.Transform | None:
    """The images that a network with weights was trained on, in as many channels as the data set has."""
    takes = options_of(datasets.get(config.dataset)).parameters
    channels = {"channels": takes["channels"].default} if "channels" in takes else {}
    given = {"channels": config.dataset_options["channels"]} if "channels" in config.dataset_options else {}
    return models.images_for(config.model, **channels | config.model_options | given)


def made_to_fit(config: TrainConfig, images: datasets.Transform | None) -> dict[str, Any]:
    """The options of the data set: of photos decoded as `images`, where there are any, unless they say otherwise."""
    photos = "deviation" in options_of(datasets.get(config.dataset)).parameters
    return (models.as_options(images) if images and photos else {}) | config.dataset_options


def make(config: TrainConfig, going_on: bool = False) -> tuple[Data[TaskSplit], Algorithm]:
    """The data set, and the algorithm with its network, of the sizes that data and task ask for.

    Args:
        going_on: the weights are in a checkpoint; those that the network started from may be gone.
    """
    check_options(models.get(config.model), config.model_options, f"'{config.model}'")
    data: Data[TaskSplit] = create(datasets, config.dataset, made_to_fit(config, own_images(config)))
    sizes = fitting({"ways": config.ways, "seed": config.seed}, data.train.example_shape)
    takes = options_of(models.get(config.model)).parameters
    fitted = {name: value for name, value in sizes.items() if name in takes}
    with models.filled_later() if going_on else contextlib.nullcontext():
        model = create(models, config.model, fitted | config.model_options)
    counted = {"classes": len(data.train.classes)} if isinstance(data.train, LabelledSplit) else {}
    takes = options_of(algorithms.get(config.algorithm)).parameters
    fitted = {name: value for name, value in counted.items() if name in takes}
    with default_draws(config.seed, "algorithm"):  # for modules of its own
        algorithm = create(algorithms, config.algorithm, fitted | config.algorithm_options, model=model)
    if going_on and "batch_norm" not in config.algorithm_options:  # what it takes by itself may depend on the weights
        algorithm.batch_norm = read_config(config.folder()).get("batch_norm")
    return data, algorithm


def train(
    config: TrainConfig, resume: bool = False, progress: bool = True, hooks: Sequence[Hooks] = ()
) -> tuple[Data[TaskSplit], Algorithm, TrainingResult]:
    """Meta-train in the run folder. What it starts from is trained first, where that is an algorithm by name.

    Returns:
        The data set, the trained algorithm, and what `meta_train` gave.
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
    training = train_by(
        settings, algorithm, data, run=folder, resume=resume, device=config.device, progress=progress, hooks=hooks
    )
    return data, algorithm, training


def earlier(config: TrainConfig) -> TrainConfig | None:
    """The run that comes first, by its algorithm's own recipe, where `init` is the name of an algorithm.

    Its folder lies beside that of the run, so that runs with the same start share it.
    """
    if config.init not in algorithms.names():
        return None
    shared = ("dataset", "dataset_options", "model", "model_options", "seed", "device", "engine")
    asked = {name: getattr(config, name) for name in shared}
    first = TrainConfig(**from_recipe({**asked, "algorithm": config.init}))
    return with_folder(first, config.folder().parent)


def with_folder(config: TrainConfig, parent: Path) -> TrainConfig:
    """The same, in a folder of `parent` that is named by a hash of all that training depends on."""
    told = config.told() | {"run": "", "test_episodes": 0}
    told["dataset_options"] = {name: value for name, value in config.dataset_options.items() if name != "root"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]
    name = dataclasses.replace(config, run="").folder().name
    return dataclasses.replace(config, run=str(parent / f"{name}-{digest}"))


def begun(run: str | Path) -> bool:
    """Whether there is a run to go on with."""
    return (Path(run) / "config.yaml").exists()


def finished(run: str | Path) -> bool:
    """Whether a run was trained to its end. Damaged results are none."""
    try:
        results = json.loads((Path(run) / "results.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(results, dict) and "training" in results
