"""learn2learn's view of a split: its own `TaskDataset`, drawn and gathered a whole task at a time."""

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
    """A `learn2learn.data.TaskDataset` of tasks `(x, y)`.

    Args:
        examples, labels: what tasks are made of, and the class index of each.
        draw: the images of a task, and their turns.
        gather: `(images, turns) -> x`.
        label: y of every task.
        num_tasks: how many there are; -1 for no end.

    Raises:
        InputError: a `num_tasks` of 0 or below -1.
    """
    if num_tasks == 0 or num_tasks < -1:
        raise InputError(f"num_tasks is {num_tasks}; it must be positive, or -1 for no end.")
    check_counts(-1, num_tasks=num_tasks)
    data = compat.learn2learn().data

    def describe(_: Any) -> list[Any]:
        # learn2learn keeps descriptions, not data: a task is one entry, gathered when it is asked for.
        task = data.task_dataset.DataDescription(0)
        task.transforms.append(partial(_gather, gather, draw(), label))
        return [task]

    known = dict(enumerate(labels))  # spares learn2learn's scan of all examples for their labels
    meta = data.MetaDataset(examples, indices_to_labels=known)
    with warnings.catch_warnings():  # 0.2 prefers the name Taskset; TaskDataset is one, and what scripts test for
        warnings.simplefilter("ignore", DeprecationWarning)
        return data.TaskDataset(meta, task_transforms=[describe], num_tasks=num_tasks, task_collate=_only)


def _gather(gather: Gather, drawn: Drawn, label: Tensor, _: int) -> tuple[Tensor, Tensor]:
    return gather(drawn.images.flatten(), drawn.turns.flatten()), label.clone()


def _only(items: list[Any]) -> Any:
    return items[0]
