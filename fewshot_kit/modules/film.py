"""Feature-wise linear modulation (Perez, Strub, de Vries, Dumoulin and Courville, AAAI 2018) of any layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn

from ..errors import InputError
from .heads import find_head

CHANNELS = ("out_channels", "num_features", "out_features")  # attributes that hold a layer's number of output channels


def find_modulated(model: nn.Module, name: str | None = None, head: str | None = None) -> tuple[str, int]:
    """Returns the name of the layer to modulate, and its number of channels.

    Args:
        name: the layer; by default the last convolution, batch norm or linear layer before the head.
        head: name of the head.

    Raises:
        InputError: there is no such layer, or its number of channels is unknown.
    """
    modules = dict(model.named_modules())
    if name is not None:
        if name not in modules:
            raise InputError(
                f"{type(model).__name__} has no layer '{name}'; it has {', '.join(filter(None, modules))}."
            )
        channels = _channels(modules[name])
        if channels is None:
            raise InputError(
                f"The layer '{name}' is a {type(modules[name]).__name__}, which does not say how many channels it "
                "gives; name a convolution, a batch norm or a linear layer."
            )
        return name, channels
    head = find_head(model, head)
    known = {key: _channels(module) for key, module in modules.items() if key != head and not any(module.children())}
    found = [(key, channels) for key, channels in known.items() if channels is not None]
    if not found:
        raise InputError(
            f"{type(model).__name__} has no layer before its head to modulate; name one, as in film='body.2'."
        )
    return found[-1]


def _channels(module: nn.Module) -> int | None:
    found = [getattr(module, word) for word in CHANNELS if isinstance(getattr(module, word, None), int)]
    return found[0] if found else None


@contextlib.contextmanager
def modulated(model: nn.Module, name: str, by: Tensor) -> Iterator[None]:
    """Context in which the output h of a layer, `[N, C, ...]` or `[N, C]`, becomes (1 + scale) h + shift.

    Args:
        by: scales, then shifts, of the channels `[2 C]`.
    """
    scale, shift = by.chunk(2)

    def hook(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (output.dim() - 2)
        return output * (1 + scale.view(shape)) + shift.view(shape)

    handle = model.get_submodule(name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
