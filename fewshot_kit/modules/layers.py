"""Finds what adaptation needs of a model's modules, and keeps the result for a meta-batch.

A task needs them a dozen times. A search through the modules of a small network takes some fifty microseconds of
Python, during which other worker threads have to wait.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Layers(NamedTuple):
    """The result of `layers`."""

    batch_norms: dict[str, _BatchNorm]  # by name
    recurrent: list[nn.RNNBase]
    tied: bool  # whether two names belong to one parameter or buffer
    # Name of a parameter or buffer -> the dictionaries of modules that hold it, and its key in each.
    slots: dict[str, list[tuple[dict[str, Tensor | None], str]]]
    parameters: list[str]  # names, in the order of `named_parameters`
    buffers: list[str]


_found: ContextVar[dict[nn.Module, Layers] | None] = ContextVar("found", default=None)


@contextlib.contextmanager
def looked_for_once() -> Iterator[None]:
    """Context in which `layers` searches each model only once; no module may be added, removed or replaced in it."""
    token = _found.set({} if _found.get() is None else _found.get())
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
    held: dict[int, list[tuple[dict[str, Tensor | None], str]]] = {}
    names: dict[str, int] = {}
    parameters = [name for name, _ in model.named_parameters()]
    buffers = [name for name, _ in model.named_buffers()]
    for name, module in model.named_modules(remove_duplicate=False):
        for tensors in (module._parameters, module._buffers):
            for key, tensor in tensors.items():
                if tensor is not None:
                    names[f"{name}.{key}" if name else key] = id(tensor)
                    held.setdefault(id(tensor), []).append((tensors, key))
    slots = {name: held[tensor] for name, tensor in names.items()}
    return Layers(normalising, recurrent, len(held) < len(names), slots, parameters, buffers)


def tensors_of(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """Returns the model's parameters and buffers of these names, or what stands in for them, without a search."""
    slots = layers(model).slots
    found = {name: slots[name][0] for name in names}
    return {name: held[key] for name, (held, key) in found.items()}  # type: ignore[misc]  # none is None


@contextlib.contextmanager
def standing_in(model: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Context in which tensors stand in for the model's parameters and buffers of these names, tied ones included.

    It does what `torch.func.functional_call` does, in a tenth of the time. Recurrent layers keep weights in another
    place too, and are left to that.
    """
    found = layers(model)
    places = [(*slot, tensor) for name, tensor in tensors.items() for slot in found.slots[name]]
    before = [held[key] for held, key, _ in places]
    try:
        for held, key, tensor in places:
            held[key] = tensor
        yield
    finally:
        for (held, key, _), own in zip(places, before, strict=True):
            held[key] = own
