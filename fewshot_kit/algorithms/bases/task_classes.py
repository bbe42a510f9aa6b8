"""How many classes a task has, and which example is in which."""

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
    """Every task inside has `ways` classes, so that `class_count` need not look: a GPU would be waited for."""
    before = _ways.set(ways)
    try:
        yield
    finally:
        _ways.reset(before)


def class_count(y: Tensor) -> int:
    """How many classes the indices `y` name; within `vmap`, the largest number over its tasks."""
    if (ways := _ways.get()) is not None:
        return ways
    return int(unbatched(y).max()) + 1


def members(y: Tensor) -> Tensor:
    """Class indices `[S]` -> `[S, classes]` of 0 and 1 in int64: which example is in which class, also inside `vmap`.

    `F.one_hot` looks at the values for the number of classes, which `vmap` refuses.
    """
    return F.one_hot(y, class_count(y))
