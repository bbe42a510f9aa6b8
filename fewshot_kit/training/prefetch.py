"""Makes the next item on another thread while the current one is in use."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], indices: range) -> Generator[T]:
    """Yields `make(index)` for every index, in order. A second thread makes each one while the last one is in use."""
    with ThreadPoolExecutor(1, "prefetch") as pool:
        following = None
        for index in indices:
            current = following or pool.submit(make, index)
            following = pool.submit(make, index + indices.step) if index != indices[-1] else None
            yield current.result()
