"""learn2learn's view of a split: its own `TaskDataset`, drawn and gathered a whole task at a time."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import compat
from ..errors import InputError
from .sampler import Drawn

if TYPE_CHECKING:
    from .split import Split


def task_dataset(split: Split, ways: int, examples: int, num_tasks: int, generator: torch.Generator) -> Any:
    """A `learn2learn.data.TaskDataset` of tasks `(x [ways * examples, ...], y)`, in class-major order.

    Raises:
        InputError: a `num_tasks` of 0 or below -1.
    """
    if num_tasks == 0 or num_tasks < -1:
        raise InputError(f"num_tasks is {num_tasks}; it must be positive, or -1 for no end.")
    data = compat.learn2learn().data
    label = torch.arange(ways).repeat_interleave(examples)

    def describe(_: Any) -> list[Any]:
        # learn2learn keeps descriptions, not data: a task is one entry, gathered when it is asked for.
        task = data.task_dataset.DataDescription(0)
        task.transforms.append(partial(_gather, split, split.draw(ways, examples, 1, generator), label))
        return [task]

    known = dict(enumerate(split.y.tolist()))  # spares learn2learn's scan of all examples for their labels
    meta = data.MetaDataset(split, indices_to_labels=known)
    with warnings.catch_warnings():  # 0.2 prefers the name Taskset; TaskDataset is one, and what scripts test for
        warnings.simplefilter("ignore", DeprecationWarning)
        return data.TaskDataset(meta, task_transforms=[describe], num_tasks=num_tasks, task_collate=_only)


def _gather(split: Split, drawn: Drawn, label: Tensor, _: int) -> tuple[Tensor, Tensor]:
    return split.gather(drawn.images.flatten(), drawn.turns.flatten()), label.clone()


def _only(items: list[Any]) -> Any:
    return items[0]
