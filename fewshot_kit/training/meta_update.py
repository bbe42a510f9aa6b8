"""One meta-update: the meta-batch, the step, and the figures of it."""

from __future__ import annotations

from collections.abc import Generator

from .. import engines
from ..algorithms import Algorithm
from ..algorithms.bases.task_classes import of_ways
from ..datasets.splits.contract import TaskSplit
from ..episodes import Episode
from ..errors import InputError
from ..evaluation import accuracy, in_dtype
from ..modules.place import device_of, dtype_of
from ..seeds import default_draws, stream
from .augmentation import augmented
from .finite import buffers_of, leave_out, measured, read
from .prefetch import ahead
from .schedules import SCHEDULES
from .settings import TrainingSettings
from .state import Training

READ_EVERY = 10  # iterations: on a GPU, reading a figure back waits for all that was started before it


def meta_batches(training: Training) -> Generator[Episode]:
    """The meta-batches of the iterations to come, each drawn while the one before it is learned from."""
    first = training.iteration + 1
    return ahead(
        lambda index: draw_meta_batch(training.algorithm, training.data.train, training.settings, index),
        range(first, training.iterations + 1),
    )


def draw_meta_batch(algorithm: Algorithm, split: TaskSplit, settings: TrainingSettings, index: int) -> Episode:
    """The meta-batch of one iteration, which the seed and the iteration's number alone decide."""
    task = settings.ways, settings.shots, settings.queries, settings.meta_batch
    drawn = algorithm.draw(split, *task, stream(settings.seed, "training", index), device_of(algorithm))
    drawn = augmented(drawn, settings.augmentation, stream(settings.seed, "augmentation", index))
    return in_dtype(drawn, dtype_of(algorithm))


def meta_update(training: Training, episodes: Episode) -> None:
    """One step of Adam along the mean meta-gradient. What is measured stays on the device for a while, on a GPU.

    Where a loss or gradient is not finite and `on_nan` is `"skip"`, no step is taken.

    Raises:
        InputError: a loss or gradient that is not finite, here or in an iteration that is read with this one.
    """
    algorithm, settings, index = training.algorithm, training.settings, training.iteration + 1
    training.optimizer.zero_grad()
    algorithm.anneal(training.iteration / training.iterations)
    drawn_from = default_draws(settings.seed, "training draws", index, device_of(algorithm))
    ways = algorithm.classes or settings.ways
    before = buffers_of(algorithm) if settings.on_nan == "skip" else None
    with drawn_from, of_ways(ways):
        losses, scores = engines.meta_backward(algorithm, episodes, training.choice)
    means = {}
    if not episodes.query_y.is_floating_point():
        means["accuracy"] = accuracy(scores, episodes.query_y, ways).mean()
    training.unread.append(measured(index, algorithm, losses, means))
    if before is not None:
        leave_out(training.unread[-1], training.optimizer, algorithm, before)
    every = 1 if losses.device.type == "cpu" else READ_EVERY
    if len(training.unread) == every:
        read_figures(training)
    for group in training.optimizer.param_groups:
        group["lr"] = settings.meta_lr * SCHEDULES[settings.schedule](training.iteration / training.iterations)
    training.optimizer.step()
    training.iteration = index
    if training.due:
        read_figures(training)


def read_figures(training: Training) -> None:
    """Bring what was measured since the last time into the history, all in one transfer from the device."""
    settings = training.settings
    for figures in read(training.unread) if training.unread else []:
        if not figures.finite and settings.on_nan == "stop":
            inner = "" if training.algorithm.lr is None else f" or inner lr than {training.algorithm.lr:g}"
            raise InputError(
                f"{figures.trouble(settings.seed)}; try a smaller meta_lr than {settings.meta_lr:g}{inner}, or leave "
                "such updates out by on_nan='skip' (--on-nan skip). The last checkpoint is kept."
            )
        training.skipped += not figures.finite
        training.history.append(figures.line(training.skipped))
    training.unread.clear()
