"""Finds the head of a model, and separates it from the body. The head is the last `nn.Linear`, unless it is named."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor, nn

from ..errors import InputError


def find_head(model: nn.Module, name: str | None = None) -> str:
    """Returns the qualified name of the head.

    Args:
        model: any module.
        name: name of the head if it is not the last `nn.Linear`, such as `"classifier.2"`.

    Raises:
        InputError: the model has no linear layer, or no module of that name.
    """
    modules = dict(model.named_modules())
    if name is not None:
        if name not in modules:
            raise InputError(
                f"{type(model).__name__} has no module '{name}'; it has {', '.join(filter(None, modules))}."
            )
        return name
    linear = [key for key, module in modules.items() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            f"{type(model).__name__} has no nn.Linear to take as its head; name the head, as in head='classifier'."
        )
    return linear[-1]


def linear_head(model: nn.Module, name: str | None = None) -> nn.Linear | None:
    """Returns the head if it is linear, and None if the model has no linear head."""
    try:
        head = model.get_submodule(find_head(model, name))
    except InputError:
        return None
    return head if isinstance(head, nn.Linear) else None


def parameters_inside(model: nn.Module, prefix: str) -> set[str]:
    """Returns the names of the parameters of the submodule `prefix`.

    Parameters are compared by identity, since a tied parameter is listed only under its first name.
    """
    inside = {id(parameter) for parameter in model.get_submodule(prefix).parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in inside}


def head_call(model: nn.Module, head: str, run: Callable[[], Tensor]) -> Tensor | None:
    """Returns the input of the head while `run` runs the model; None if the head's output is not the model's."""
    calls: list[tuple[tuple[Tensor, ...], Tensor]] = []
    handle = model.get_submodule(head).register_forward_hook(lambda _, inputs, output: calls.append((inputs, output)))
    try:
        scores = run()
    finally:
        handle.remove()
    if len(calls) != 1 or len(calls[0][0]) != 1 or calls[0][1] is not scores:
        return None
    return calls[0][0][0]


def without_head(model: nn.Module, head: str | None = None) -> nn.Module:
    """Returns a network whose output is the input of the model's head; it shares all other modules with the model.

    A model without a linear head is returned as it is, if no head is named.
    """
    try:
        path = find_head(model, head).split(".")
    except InputError:
        if head is not None:
            raise
        return model
    return _replaced(model, path, nn.Identity())


def _replaced(module: nn.Module, path: list[str], by: nn.Module) -> nn.Module:
    if not path or path == [""]:
        return by
    shallow = copy.copy(module)
    shallow._modules = dict(module._modules)
    inside = shallow._modules[path[0]]
    assert inside is not None
    shallow._modules[path[0]] = _replaced(inside, path[1:], by)
    return shallow
