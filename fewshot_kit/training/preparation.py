"""Prepares a run for its first meta-update: the checks, the initial weights, the engine and the run folder."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from pathlib import Path

import torch
from torch import nn

from .. import engines
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..algorithms.bases.task_check import check_algorithm, check_task
from ..datasets.splits.contract import DataSet, check_data_set
from ..episodes import Episode
from ..errors import InputError
from ..modules.modes import kept_modes
from ..modules.place import find_device
from ..runs.checkpoints import read_run, state_path
from ..runs.config import describe
from .initial import start_from
from .meta_update import draw_meta_batch
from .recorder import Recorder
from .settings import TrainingSettings
from .sharing import common_choice, synchronise
from .state import Training


def prepare(
    algorithm: Algorithm,
    data: DataSet,
    settings: TrainingSettings,
    run: str | Path | None,
    resume: bool,
    device: torch.device | str | None,
    accept_edited: bool = False,
) -> tuple[Training, Recorder | None]:
    """Returns a run that is ready for its next iteration, and the recorder of its folder (None without a folder).

    Raises:
        InputError: as in `meta_train`.
    """
    processes = engines.Processes.current()
    check_algorithm(algorithm, "meta_train")
    check_data_set(data, "meta_train")
    before = _before(run, accept_edited) if resume else None
    first = _first_meta_batch(algorithm, data, settings, device, processes)
    parameters = _trained(algorithm, settings)
    with kept_modes(algorithm):
        if before is None or not processes.agreed(state_path(run or "").exists):  # or killed at its start
            if settings.init is not None:
                start_from(algorithm, settings.init)
            algorithm.eval().begin(data.train, settings.iterations)
        algorithm.train()
        choice = _choice(processes, algorithm, first, settings.run_as(before) if before else settings)
    settings = dataclasses.replace(settings, **choice.settings())
    optimizer = torch.optim.Adam([{"params": parameters}], lr=settings.meta_lr, fused=True)  # a group may be empty
    training = Training(algorithm, data, optimizer, settings, choice, processes=processes)
    recorder = None
    if run is not None and processes.leads:
        recorder = Recorder(run, describe(algorithm, data, settings.recorded()), accept_edited)
    start = None if recorder is None else recorder.resume if resume else recorder.begin
    with contextlib.ExitStack() as stack:
        if recorder is not None:
            stack.callback(recorder.on_exit, training)  # lets go of the folder where something is wrong with it
        processes.agreed(lambda: start and start(training))
        synchronise(training)
        if before and not before.iterations and settings.iterations:  # only now it asks for training
            algorithm.begin(data.train, settings.iterations)
        stack.pop_all()
    return training, recorder


def _before(run: str | Path | None, accept_edited: bool) -> TrainingSettings:
    if run is None:
        raise InputError("resume needs the run folder to go on with; name it with run=.")
    return TrainingSettings.from_config(read_run(run, accept_edited), Path(run) / "config.yaml")


def _first_meta_batch(
    algorithm: Algorithm,
    data: DataSet,
    settings: TrainingSettings,
    device: torch.device | str | None,
    processes: engines.Processes,
) -> Episode:
    """This process's part of the run's first meta-batch, or an episode, once all fits together."""
    with_options(copy.copy(algorithm), **settings.test_options)  # said before any work
    data.train.check(settings.ways, settings.shots, settings.queries)
    if data.validation is not None and settings.iterations:
        data.validation.check(settings.tested_ways, settings.shots, settings.validation_queries)
    if device is not None:
        algorithm.to(find_device(device))
    part = processes.part(settings.meta_batch)
    part = part if part.start < part.stop else slice(0, 1)
    first = draw_meta_batch(algorithm, data.train, settings, 1, part)
    check_task(algorithm, first.query_x[0], first.query_y[0], settings.ways)
    return first


def _trained(algorithm: Algorithm, settings: TrainingSettings) -> list[nn.Parameter]:
    parameters = [parameter for parameter in algorithm.parameters() if parameter.requires_grad]
    if not parameters and settings.iterations:
        raise InputError(
            f"{type(algorithm.model).__name__} has nothing to train: no parameter has requires_grad=True; ask for 0 "
            "iterations to keep it as it is."
        )
    return parameters


def _choice(
    processes: engines.Processes, algorithm: Algorithm, first: Episode, settings: TrainingSettings
) -> engines.Choice:
    if settings.engine == "auto" and not settings.iterations:  # measuring pays off only if the run trains
        return engines.usual(algorithm, first)
    return common_choice(processes, algorithm, first, settings)
