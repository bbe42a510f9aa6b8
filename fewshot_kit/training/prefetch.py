"""What comes next is made while the present is used."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], indices: range) -> Generator[T]:
    """`make(index)` for every index, in order, each begun on another thread while the one before it is in use."""
    with ThreadPoolExecutor(1, "prefetch") as pool:
        following = None
        for index in indices:
            current = following or pool.submit(make, index)
            following = pool.submit(make, index + indices.step) if index != indices[-1] else None
            yield current.result()
