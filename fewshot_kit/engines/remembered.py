"""`engine="auto"` in a loop of one's own: measured once, and remembered.

This is the package's one memory that belongs to the module and to no object: `meta_backward` gets the same algorithm
again and again, on which nothing may be stored, since it is copied and saved. It is weak: an algorithm that nobody else
holds is let go, and what was measured of it with it.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch

from ..algorithms import Algorithm
from ..episodes import Episode
from .choice import Choice
from .selection import choose

_remembered: WeakKeyDictionary[Algorithm, dict[Any, Choice]] = WeakKeyDictionary()


def remembered(algorithm: Algorithm, episodes: Episode, chunk: int | None = None, workers: int | None = None) -> Choice:
    """What `choose` gave for meta-batches of this kind to this algorithm; the first one is measured.

    Measured anew are: other shapes, dtypes or devices of the meta-batch or of the algorithm's tensors; other trainable
    parameters; another mode, train or eval, of any module; modules of other types; other whole numbers, texts or yes
    and no among the algorithm's options, such as `steps` and `first_order`; another number of PyTorch's threads. Not
    so rates, which a schedule may move at every call, nor functions: for another criterion or hook call `choose`.

    Raises:
        InputError: what `choose` refuses.
    """
    known = _remembered.setdefault(algorithm, {})
    kind = (chunk, workers, torch.get_num_threads(), *_kind(algorithm, episodes))
    if kind not in known:
        known[kind] = choose(algorithm, episodes, "auto", chunk, workers)
    for other, choice in known.items():
        if other != kind:  # many kinds of meta-batches are not to need many copies of the algorithm
            choice.copies.forget()
    return known[kind]


def _kind(algorithm: Algorithm, episodes: Episode) -> tuple[Any, ...]:
    """What the times of the engines depend on."""
    tensors = (*episodes, *algorithm.parameters(), *algorithm.buffers())
    kinds = ((tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad) for tensor in tensors)
    modules = ((type(module), module.training) for module in algorithm.modules())
    options = ((name, value) for name, value in vars(algorithm).items() if isinstance(value, int | str | None))
    return (*kinds, *modules, *options)
