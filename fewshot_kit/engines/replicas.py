"""Copies of an algorithm for workers, kept from one meta-batch to the next: making one takes a tenth of a task."""

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
    """As many copies of one algorithm as are asked for, each time with its tensors as they are then.

    They are made anew wherever anything else has changed: an option, a mode, a hook, a module, what is trainable.
    """

    def __init__(self) -> None:
        self.made: list[Algorithm] = []
        self.looks: list[Any] = []

    def of(self, algorithm: Algorithm, count: int) -> list[Algorithm]:
        """`count` copies, in the algorithm's own memory layout or in the one that they were given since."""
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
        """Make them anew next time: an error may have left them in any state."""
        self.made, self.looks = [], []


def _tensors(algorithm: Algorithm) -> list[Tensor]:
    return [*algorithm.parameters(), *algorithm.buffers()]


def _kinds(tensors: list[Tensor]) -> list[tuple[Any, ...]]:
    return [(tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad) for tensor in tensors]


def _looks(algorithm: Algorithm) -> Iterator[Any]:
    """Everything else that makes a copy what it is, to be compared by identity: two levels deep, as options are."""
    for module in algorithm.modules():
        for name, value in vars(module).items():
            yield name
            if isinstance(value, dict):
                yield from value
                yield from value.values()
            elif isinstance(value, list | tuple | set):
                yield from value
            else:  # a method of the algorithm's own would keep the algorithm; of one object there is one weak reference
                yield weakref.ref(value) if isinstance(value, MethodType) else value
