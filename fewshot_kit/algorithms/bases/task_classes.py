"""The number of classes of a task, and the class of each example as a one-hot matrix."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from torch import Tensor
from torch.nn import functional as F

from ...modules.private import unbatched

_ways: ContextVar[int | None] = ContextVar("ways", default=None)


@contextlib.contextmanager
def of_ways(ways: int) -> Iterator[None]:
    """Context in which every task has `ways` classes; `class_count` then need not wait for values from the GPU."""
    before = _ways.set(ways)
    try:
        yield
    finally:
        _ways.reset(before)


def class_count(y: Tensor) -> int:
    """Returns the number of classes of the indices `y`; within `vmap`, the largest number over the tasks."""
    if (ways := _ways.get()) is not None:
        return ways
    return int(unbatched(y).max()) + 1


def members(y: Tensor) -> Tensor:
    """Class indices `[S]` -> one-hot int64 `[S, classes]`; works inside `vmap` too.

    `F.one_hot` alone would read the number of classes from the values, which `vmap` refuses.
    """
    return F.one_hot(y, class_count(y))
