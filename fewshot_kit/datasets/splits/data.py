"""A data set: three splits with no class in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..files.images import Transform
from .contract import TaskSplit
from .split import Split

Splits = TypeVar("Splits", bound=TaskSplit, covariant=True)


@dataclass
class Data(Generic[Splits]):
    """A data set: splits with no class in common. The registry sets `recipe` if it made the data set by name."""

    name: str
    train: Splits
    validation: Splits | None
    test: Splits
    options: dict[str, Any]
    recipe: dict[str, Any] | None = field(default=None, compare=False)

    @property
    def transform(self) -> Transform | None:
        """The transform that made tensors of image files; None for other data."""
        return self.train.transform if isinstance(self.train, Split) else None


def make_data(
    name: str,
    x: Tensor,
    y: Tensor,
    classes: Sequence[str],
    parts: Sequence[Sequence[int]],
    options: dict[str, Any],
    rotations: str = "none",
    transform: Transform | None = None,
    remedy: str = Split.remedy,
) -> Data[Split]:
    """Returns the data set whose training, validation and test classes are `parts`. Only training is rotated.

    Args:
        x, y: all examples `[N, ...]` and their class indices `[N]`.
        parts: class indices of training, validation (may be empty) and test.
        remedy: the advice in the message when there are more ways than classes.
    """
    splits: list[Split | None] = []
    for word, part in zip(("training", "validation", "test"), parts, strict=True):
        if not part:
            splits.append(None)
            continue
        number = torch.full((len(classes),), -1)
        number[list(part)] = torch.arange(len(part))
        rows = (number[y] >= 0).nonzero().flatten()
        named = [classes[index] for index in part]
        turned = rotations if word == "training" else "none"
        own = x.index_select(0, rows)  # takes half the time of x[rows]
        split = Split(own, number[y[rows]], named, f"the {word} split of {name}", turned, transform)
        split.remedy = remedy
        splits.append(split)
    train, validation, test = splits
    assert train is not None and test is not None
    return Data(name, train, validation, test, options)
