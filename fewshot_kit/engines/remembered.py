"""The memory of `engine="auto"`, so that a user's own training loop measures the engines only once.

This is the package's only memory at module level. `meta_backward` gets the same algorithm again and again, and cannot
store anything on it, because algorithms are copied and saved. The memory is weak: it ends with the algorithm.
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


def remembered(
    algorithm: Algorithm,
    episodes: Episode,
    engine: str = "auto",
    chunk: int | None = None,
    workers: int | None = None,
) -> Choice:
    """Returns the choice that `choose` made for this algorithm and this kind of meta-batch.

    A new kind is measured. A kind is new if any of these changed: shapes, dtypes or devices of the meta-batch or of the
    algorithm's tensors; which parameters are trainable; the mode (train or eval) or type of a module; an option of the
    algorithm that is an int, a string or a bool, such as `steps` and `first_order`; PyTorch's number of threads.
    Learning rates do not count, because a schedule may change them at every call. Functions do not count either: call
    `choose` after changing a criterion or a hook.

    Raises:
        InputError: as `choose` does.
    """
    known = _remembered.setdefault(algorithm, {})
    kind = (engine, chunk, workers, torch.get_num_threads(), *_kind(algorithm, episodes))
    if kind not in known:
        known[kind] = choose(algorithm, episodes, engine, chunk, workers)
    for other, choice in known.items():
        if other != kind:  # many kinds of meta-batches must not keep many copies of the algorithm
            choice.copies.forget()
    return known[kind]


def _kind(algorithm: Algorithm, episodes: Episode) -> tuple[Any, ...]:
    """Returns everything that the engines' times depend on."""
    tensors = (*episodes, *algorithm.parameters(), *algorithm.buffers())
    kinds = ((tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad) for tensor in tensors)
    modules = ((type(module), module.training) for module in algorithm.modules())
    options = ((name, value) for name, value in vars(algorithm).items() if isinstance(value, int | str | None))
    return (*kinds, *modules, *options)
