"""Copies of an algorithm for workers. They are kept between meta-batches: making one takes a tenth of a task's time."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Algorithm


class Copies:
    """Copies of one algorithm, which get its current tensors at every request.

    New copies are made if anything else has changed: an option, a mode, a hook, a module, or which parameters train.
    """

    def __init__(self) -> None:
        self.made: list[Algorithm] = []
        self.looks: list[Any] = []
        # By the shape of images, whether the algorithm itself takes them in channels-last memory.
        self.layouts: dict[torch.Size, bool] = {}

    def of(self, algorithm: Algorithm, count: int) -> list[Algorithm]:
        """Returns `count` copies, in the algorithm's memory layout or the layout that they were given since."""
        tensors, looks = _tensors(algorithm), list(_looks(algorithm))
        same = len(looks) == len(self.looks) and all(a is b for a, b in zip(looks, self.looks, strict=True))
        if not same or len(self.made) != count or _kinds(tensors) != _kinds(_tensors(self.made[0])):
            self.made, self.looks = [copy.deepcopy(algorithm) for _ in range(count)], looks
            return self.made
        with torch.no_grad():
            for one in self.made:
                for own, now in zip(_tensors(one), tensors, strict=True):
                    own.copy_(now)
        return self.made

    def forget(self) -> None:
        """Drops the copies, because an error may have left them in any state."""
        self.made, self.looks, self.layouts = [], [], {}


def _tensors(algorithm: Algorithm) -> list[Tensor]:
    return [*algorithm.parameters(), *algorithm.buffers()]


def _kinds(tensors: list[Tensor]) -> list[tuple[Any, ...]]:
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad) for tensor in tensors]


def _looks(algorithm: Algorithm) -> Iterator[Any]:
    """Yields everything but tensors that defines a copy, two levels deep, to be compared by identity."""
    for module in algorithm.modules():
        for name, value in vars(module).items():
            yield name
            if isinstance(value, dict):
                yield from value
                yield from value.values()
            elif isinstance(value, list | tuple | set):
                yield from value
            else:  # a bound method would keep the algorithm alive; weak references to one object are identical
                yield weakref.ref(value) if isinstance(value, MethodType) else value
