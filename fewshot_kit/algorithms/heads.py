"""The head of a model: the last `nn.Linear`, unless it is named."""

from __future__ import annotations

from torch import nn

from ..errors import InputError


def find_head(model: nn.Module, name: str | None = None) -> str:
    """The qualified name of the head.

    Args:
        model: any module.
        name: the head where it is not the last `nn.Linear`, such as `"classifier.2"`.

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


def head_outputs(model: nn.Module, name: str | None = None) -> int | None:
    """How many scores the linear head gives; None where the model has none."""
    try:
        head = model.get_submodule(find_head(model, name))
    except InputError:
        return None
    return head.out_features if isinstance(head, nn.Linear) else None


def parameters_inside(model: nn.Module, prefix: str) -> set[str]:
    """Names of the parameters that live in the submodule `prefix`.

    A tied parameter has one name, the first one it is met under, so it is compared by identity.
    """
    inside = {id(parameter) for parameter in model.get_submodule(prefix).parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in inside}
