"""Says what something is that should be a module."""

from __future__ import annotations

import inspect
from itertools import chain
from typing import Any

from torch import nn

from ..errors import InputError


def check_module(model: Any) -> None:
    """Raises `InputError` for a model that is no `nn.Module`, with what to give in its place."""
    if isinstance(model, nn.Module):
        return
    if isinstance(model, str):
        said = f"the text '{model}'; make the network, as models.create(\"{model}\", ways=5) does"
    elif inspect.isclass(model):
        said = f"the class {model.__name__}; give an object of it, {model.__name__}(...)"
    elif inspect.isroutine(model):
        said = f"the function {model.__name__}; put it into the forward of an nn.Module"
    else:
        said = f"{'None' if model is None else f'of type {type(model).__name__}'}; give an nn.Module"
    raise InputError(f"The model is {said}.")


def check_values(module: nn.Module) -> None:
    """Raises `InputError` for a parameter or buffer on the device `meta`, which has no values."""
    tensors = chain(module.named_parameters(), module.named_buffers())
    odd = next((name for name, tensor in tensors if tensor.is_meta), None)
    if odd is not None:
        raise InputError(
            f"'{odd}' of {type(module).__name__} is on the device 'meta', which holds no values; make the model on "
            "another device, or fill it by to_empty(device='cpu') and load_state_dict."
        )
