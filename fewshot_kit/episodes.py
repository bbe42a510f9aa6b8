"""Episodes: one task's support set and queries, and functions that prepare them for algorithms."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .errors import InputError


class Episode(NamedTuple):
    """One task, or a meta-batch of T tasks, whose tensors have an extra leading dimension T."""

    support_x: Tensor  # [S, ...]
    support_y: Tensor  # [S]  int64 class index, or float targets
    query_x: Tensor  # [Q, ...]
    query_y: Tensor  # [Q]

    def to(self, device: torch.device | str) -> Episode:
        """Returns the episode on another device."""
        return Episode(*(tensor.to(device) for tensor in self))


def stack(episodes: Iterable[Episode]) -> Episode:
    """Stacks T episodes of equal shapes into one meta-batch with a leading T; `InputError` for one of another shape."""
    parts = [list(tensors) for tensors in zip(*episodes, strict=True)]
    for name, tensors in zip(Episode._fields, parts, strict=True):
        odd = next((place for place, tensor in enumerate(tensors) if tensor.shape != tensors[0].shape), None)
        if odd is not None:
            shapes = [list(tensors[place].shape) for place in (odd, 0)]
            raise InputError(
                f"Episode {odd} has {name} of shape {shapes[0]}, the first one {shapes[1]}; a meta-batch has tasks of "
                "one shape."
            )
    return Episode(*map(torch.stack, parts))


def unstack(meta_batch: Episode) -> list[Episode]:
    """Returns the T episodes of a meta-batch with a leading T."""
    return [Episode(*tensors) for tensors in zip(*meta_batch, strict=True)]


def in_dtype(episodes: Episode, dtype: torch.dtype) -> Episode:
    """Returns the episodes with their floating-point tensors in `dtype`."""
    return Episode(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in episodes))


def split(x: Tensor, y: Tensor, shots: int) -> Episode:
    """Splits one task's examples into an episode: the first `shots` of every class are support, the rest queries.

    Args:
        x: examples `[N, ...]`.
        y: class indices `[N]`, in any order.
        shots: support examples per class.

    Raises:
        InputError: a class without any example left for the queries.
    """
    if y.dim() != 1 or y.is_floating_point():
        raise InputError(f"The labels have shape {list(y.shape)} and are {y.dtype}; give class indices [{len(x)}].")
    counts = torch.bincount(y)
    few = [index for index, count in enumerate(counts.tolist()) if 0 < count <= shots]
    if few:
        raise InputError(
            f"Class {few[0]} has {int(counts[few[0]])} examples: too few for {shots} shots and at least one query."
        )
    support = presentations(y) <= shots
    return Episode(x[support], y[support], x[~support], y[~support])


def presentations(y: Tensor) -> Tensor:
    """Returns how often each of the class indices `[..., L]` has occurred up to its place: 1, 2, ... `[..., L]`."""
    return (y[..., :, None] == y[..., None, :]).tril().sum(-1)


def relabel(labels: Sequence[Hashable] | Tensor) -> tuple[Tensor, list[Hashable]]:
    """Returns class indices `[N]` (int64) for any labels, and the classes by index, sorted if they have an order."""
    plain = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    try:
        classes = sorted(set(plain))
    except TypeError:  # labels of mixed types have no order, so the given one is kept
        classes = list(dict.fromkeys(plain))
    index = {label: position for position, label in enumerate(classes)}
    return torch.tensor([index[label] for label in plain]), classes
