"""Finds the modules of a model that run differently during adaptation, and keeps the result for a meta-batch.

A task needs them a dozen times. A search through the modules of a small network takes some fifty microseconds of
Python, during which other worker threads have to wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class Layers(NamedTuple):
    """The result of `layers`."""

    batch_norms: dict[str, _BatchNorm]  # by name
    recurrent: list[nn.RNNBase]
    tied: bool  # whether two names belong to one parameter or buffer


_found: ContextVar[dict[nn.Module, Layers] | None] = ContextVar("found", default=None)


@contextlib.contextmanager
def looked_for_once() -> Iterator[None]:
    """Context in which `layers` searches each model only once; no module may be added, removed or replaced in it."""
    token = _found.set({})
    try:
        yield
    finally:
        _found.reset(token)


def layers(model: nn.Module) -> Layers:
    """Returns the modules of a model that run differently during adaptation."""
    found = _found.get()
    if found is None:
        return _look(model)
    if model not in found:
        found[model] = _look(model)
    return found[model]


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Returns the model's batch-norm layers by name."""
    return layers(model).batch_norms


def _look(model: nn.Module) -> Layers:
    named = dict(model.named_modules())
    normalising = {name: module for name, module in named.items() if isinstance(module, _BatchNorm)}
    recurrent = [module for module in named.values() if isinstance(module, nn.RNNBase)]
    everyone = model.named_modules(remove_duplicate=False)
    tensors = [id(t) for _, m in everyone for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
    return Layers(normalising, recurrent, len(set(tensors)) < len(tensors))
