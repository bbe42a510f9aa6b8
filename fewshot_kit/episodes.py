"""Episodes: one task's support and query set, and what is done to them before an algorithm sees them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import InputError


class Episode(NamedTuple):
    """One task, or a meta-batch of T tasks, where every tensor has one more leading dimension T."""

    support_x: Tensor  # [S, ...]
    support_y: Tensor  # [S]  int64 class index, or float targets
    query_x: Tensor  # [Q, ...]
    query_y: Tensor  # [Q]

    def to(self, device: torch.device | str) -> Episode:
        """The same episode on another device."""
        return Episode(*(tensor.to(device) for tensor in self))


def stack(episodes: Iterable[Episode]) -> Episode:
    """T episodes of equal shapes -> one meta-batch with a leading T."""
    return Episode(*(torch.stack(tensors) for tensors in zip(*episodes, strict=True)))


def unstack(meta_batch: Episode) -> list[Episode]:
    """A meta-batch with a leading T -> its T episodes."""
    return [Episode(*tensors) for tensors in zip(*meta_batch, strict=True)]


def split(x: Tensor, y: Tensor, shots: int) -> Episode:
    """One task's examples -> an episode: the first `shots` of every class are support, the rest query.

    Args:
        x: examples `[N, ...]`.
        y: class indices `[N]`, in any order.
        shots: support examples per class.

    Raises:
        InputError: a class without any example left for the query set.
    """
    counts = torch.bincount(y)
    few = [index for index, count in enumerate(counts.tolist()) if 0 < count <= shots]
    if few:
        raise InputError(
            f"Class {few[0]} has {int(counts[few[0]])} examples: too few for {shots} shots and at least one query."
        )
    support = presentations(y) <= shots
    return Episode(x[support], y[support], x[~support], y[~support])


def presentations(y: Tensor) -> Tensor:
    """How many times the class of each has come by then: class indices `[..., L]` -> 1, 2, ... `[..., L]`."""
    return (y[..., :, None] == y[..., None, :]).tril().sum(-1)


def relabel(labels: Sequence[Hashable] | Tensor) -> tuple[Tensor, list[Hashable]]:
    """Any labels -> class indices `[N]` (int64) and the classes, sorted where they can be, by index."""
    plain = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    try:
        classes = sorted(set(plain))
    except TypeError:  # labels of mixed kinds have no order: keep the one they came in
        classes = list(dict.fromkeys(plain))
    index = {label: position for position, label in enumerate(classes)}
    return torch.tensor([index[label] for label in plain]), classes
