"""Makes a learn2learn `TaskDataset` of a split, which draws and gathers a whole task at a time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ... import compat
from ...errors import InputError
from ...ranges import check_counts
from .sampler import Drawn

Gather = Callable[[Tensor, Tensor], Tensor]


def task_dataset(
    examples: Dataset[tuple[Tensor, int]],
    labels: list[int],
    draw: Callable[[], Drawn],
    gather: Gather,
    label: Tensor,
    num_tasks: int,
) -> Any:
    """Returns a `learn2learn.data.TaskDataset` of tasks `(x, y)`.

    Args:
        examples, labels: the split's examples, and the class index of each.
        draw: draws the images of a task and their quarter turns.
        gather: maps `(images, turns)` to `x`.
        label: the `y` of every task.
        num_tasks: number of tasks; -1 for no limit.

    Raises:
        InputError: `num_tasks` is 0 or below -1.
    """
    if num_tasks == 0 or num_tasks < -1:
        raise InputError(f"num_tasks is {num_tasks}; it must be positive, or -1 for no end.")
    check_counts(-1, num_tasks=num_tasks)
    data = compat.learn2learn().data

    def describe(_: Any) -> list[Any]:
        # learn2learn keeps descriptions, not data. So a task is one entry here, and its images are gathered on access.
        task = data.task_dataset.DataDescription(0)
        task.transforms.append(partial(_gather, gather, draw(), label))
        return [task]

    known = dict(enumerate(labels))  # saves learn2learn a scan of all examples for their labels
    meta = data.MetaDataset(examples, indices_to_labels=known)
    with warnings.catch_warnings():  # 0.2 prefers its base class Taskset, but scripts test for TaskDataset
        warnings.simplefilter("ignore", DeprecationWarning)
        return data.TaskDataset(meta, task_transforms=[describe], num_tasks=num_tasks, task_collate=_only)


def _gather(gather: Gather, drawn: Drawn, label: Tensor, _: int) -> tuple[Tensor, Tensor]:
    return gather(drawn.images.flatten(), drawn.turns.flatten()), label.clone()


def _only(items: list[Any]) -> Any:
    return items[0]
