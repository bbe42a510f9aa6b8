"""One meta-update: its meta-batch, the step of the optimizer, and its loss and accuracy."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.bases.task_classes import of_ways
from ..datasets.splits.contract import TaskSplit
from ..datasets.splits.part import Part
from ..datasets.splits.split import Split
from ..engines.results import Result
from ..engines.run import add_mean
from ..episodes import Episode, in_dtype, stack, unstack
from ..errors import InputError
from ..evaluation import accuracy
from ..modules.place import device_of, dtype_of
from ..seeds import default_draws, stream
from .augmentation import augmented
from .finite import buffers_of, leave_out, measured, read
from .prefetch import ahead
from .schedules import SCHEDULES
from .settings import TrainingSettings
from .state import Training

READ_EVERY = 10  # iterations; on a GPU, reading a figure back waits for all earlier work


def meta_batches(training: Training) -> Generator[Episode]:
    """Yields this process's part of the meta-batches to come. Each is drawn while the one before it is learned from."""
    first, part = training.iteration + 1, training.processes.part(training.meta_batch)
    return ahead(
        lambda index: draw_meta_batch(training.algorithm, training.data.train, training.settings, index, part),
        range(first, training.iterations + 1),
    )


def draw_meta_batch(
    algorithm: Algorithm, split: TaskSplit, settings: TrainingSettings, index: int, part: slice | None = None
) -> Episode:
    """Draws a part, or all, of the meta-batch of an iteration. It depends on the seed and the iteration alone."""
    count = settings.meta_batch
    part = part or slice(0, count)
    size = part.stop - part.start
    source = Part(split, count, part) if size < count and isinstance(split, Split) else split
    task = settings.ways, settings.shots, settings.queries, count
    drawn = algorithm.draw(source, *task, stream(settings.seed, "training", index), device_of(algorithm))
    if len(drawn.query_y) > size:  # of anybody's own split, which draws all
        drawn = Episode(*(tensor[part] for tensor in drawn))
    drawn = augmented(drawn, settings.augmentation, stream(settings.seed, "augmentation", index), part, count)
    return in_dtype(drawn, dtype_of(algorithm))


def meta_update(training: Training, own: Episode) -> None:
    """One step of Adam along the mean meta-gradient, of this process's own episodes and all others.

    What is measured stays on the device for a while, on a GPU.

    Where a loss or gradient is not finite and `on_nan` is `"skip"`, no step is taken.

    Raises:
        InputError: a loss or gradient is not finite, in this iteration or in another one that is read with it.
    """
    algorithm, settings, index = training.algorithm, training.settings, training.iteration + 1
    training.optimizer.zero_grad()
    algorithm.anneal(training.iteration / training.iterations)
    ways = algorithm.classes or settings.ways
    before = buffers_of(algorithm) if settings.on_nan == "skip" else None
    with of_ways(ways):
        result = _shared(training, own, index)
    add_mean(algorithm, result, settings.meta_batch)
    losses, means = _figures(training, result, own.query_y, ways)
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


def _shared(training: Training, own: Episode, index: int) -> Result:
    """Gradients and buffer moves summed over the whole meta-batch; losses and scores of this process's episodes."""
    algorithm, settings, processes = training.algorithm, training.settings, training.processes
    first = processes.part(settings.meta_batch).start

    def run(some: Episode, number: int) -> Result:
        # Episodes that run after others go on with their draws, such as dropout's; a process begins its own.
        name = f"training draws from {number}" if number else "training draws"
        with default_draws(settings.seed, name, index, device_of(algorithm)):
            return training.choice.run(algorithm, some)

    if settings.exact:
        each = [run(stack([task]), number) for number, task in enumerate(unstack(own), first)]
        return processes.summed_in_order(algorithm, each, settings.meta_batch)
    return processes.summed(algorithm, run(own, first) if len(own.query_y) else None)


def _figures(training: Training, result: Result, query_y: Tensor, ways: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses `[T]` of the whole meta-batch; mean loss and accuracy, and of several processes whether one is to stop."""
    processes, count = training.processes, training.settings.meta_batch
    part, columns = processes.part(count), {"loss": result.losses}
    if not query_y.is_floating_point():
        columns["accuracy"] = accuracy(result.scores, query_y, ways) if len(query_y) else result.losses
    if processes.size == 1:
        return result.losses, {name: column.mean() for name, column in columns.items()}
    table = torch.zeros(len(columns), count + 1, dtype=torch.float64, device=query_y.device)
    for row, column in zip(table, columns.values(), strict=True):
        row[part] = column
    table[0, count] = bool(training.stops)
    found = dict(zip(columns, processes.filled(table), strict=True))
    stopping = found["loss"][count]
    found["loss"] = found["loss"].to(result.losses.dtype)  # so that the mean is rounded as that of one process is
    means = {name: row[:count].mean() for name, row in found.items()}
    return found["loss"][:count], means | {"stopping": stopping}


def read_figures(training: Training) -> None:
    """Adds the unread losses and accuracies to the history, in one transfer from the device.

    Raises:
        InputError: a loss or gradient is not finite.
    """
    settings = training.settings
    for figures in read(training.unread) if training.unread else []:
        training.stopping |= figures.means.pop("stopping", 0) > 0
        if not figures.finite and settings.on_nan == "stop":
            inner = "" if training.algorithm.lr is None else f" or inner lr than {training.algorithm.lr:g}"
            raise InputError(
                f"{figures.trouble(settings.seed)}; try a smaller meta_lr than {settings.meta_lr:g}{inner}, or leave "
                "such updates out by on_nan='skip' (--on-nan skip). The last checkpoint is kept."
            )
        training.skipped += not figures.finite
        training.history.append(figures.line(training.skipped))
    training.unread.clear()
