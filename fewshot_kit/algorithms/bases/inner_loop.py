"""The one inner loop that every gradient-based algorithm is a composition of, in optax's manner.

A rule is two pure functions; what it carries from step to step is handed in and out, never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...modules.private import inside_transform

Tensors = dict[str, Tensor]
# (adapting parameters, buffers) -> (loss, buffers after the forward pass)
Loss = Callable[[Tensors, Tensors], tuple[Tensor, Tensors]]


class Rule(NamedTuple):
    """An update rule: `init(parameters)` gives its memory; `update(parameters, gradients, loss, memory, step)` one step
    and the memory after it. The loss is handed over as a constant.
    """

    init: Callable[[Tensors], Any]
    update: Callable[[Tensors, Tensors, Tensor, Any, int], tuple[Tensors, Any]]


def sgd(lr: float | Mapping[str, Tensor | float]) -> Rule:
    """Plain gradient descent: p - lr * g, with one rate, one for every parameter, or one for each of its elements."""

    def update(parameters: Tensors, gradients: Tensors, loss: Tensor, memory: None, step: int) -> tuple[Tensors, None]:
        if isinstance(lr, Mapping):
            return {name: p - lr[name] * gradients[name] for name, p in parameters.items()}, None
        return {name: torch.sub(p, gradients[name], alpha=lr) for name, p in parameters.items()}, None

    return Rule(lambda parameters: None, update)


def adam(lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Rule:
    """Adam (Kingma and Ba, 2015, algorithm 1)."""
    beta1, beta2 = betas

    def init(parameters: Tensors) -> tuple[Tensors, Tensors]:
        return tuple({name: torch.zeros_like(p) for name, p in parameters.items()} for _ in range(2))  # type: ignore[return-value]

    def update(
        parameters: Tensors, gradients: Tensors, loss: Tensor, memory: tuple[Tensors, Tensors], step: int
    ) -> tuple[Tensors, tuple[Tensors, Tensors]]:
        first, second = (dict(moments) for moments in memory)
        moved = {}
        for name, p in parameters.items():
            first[name] = beta1 * first[name] + (1 - beta1) * gradients[name]
            second[name] = beta2 * second[name] + (1 - beta2) * gradients[name] ** 2
            mean = first[name] / (1 - beta1 ** (step + 1))
            spread = second[name] / (1 - beta2 ** (step + 1))
            moved[name] = p - lr * mean / (spread.sqrt() + eps)
        return moved, (first, second)

    return Rule(init, update)


# The rules that an option can name, each a function of its rate.
RULES: dict[str, Callable[[float], Rule]] = {"sgd": sgd, "adam": adam}


def inner_loop(
    loss: Loss, parameters: Tensors, buffers: Tensors, rule: Rule, steps: int, order: int
) -> tuple[Tensors, Tensors]:
    """Adapt: `steps` updates of `parameters` by `rule` along the gradient of `loss`.

    Buffers go through the loss as values, so that no module is changed.

    Args:
        loss: `(parameters, buffers) -> (scalar, buffers)`.
        order: 2 leaves the result differentiable with respect to the parameters that came in; 1 takes the gradients
            as constants there (FOMAML); 0 keeps no graph from one step to the next.

    Returns:
        The adapted parameters and the buffers after the last step.
    """
    memory = rule.init(parameters)
    for step in range(steps):
        gradients, value, buffers = _gradients(loss, parameters, buffers, create_graph=order == 2)
        with torch.set_grad_enabled(order > 0):
            parameters, memory = rule.update(parameters, gradients, value, memory, step)
        if order == 0:
            parameters = {name: leaf(p) for name, p in parameters.items()}
    return parameters, buffers


def descended(
    loss: Callable[..., Tensor], weights: Tensor, constants: tuple[Tensor, ...], rule: Rule, steps: int
) -> Tensor:
    """A head's weights after `steps` updates by `rule` along the gradient of `loss(weights, *constants)`.

    Differentiable with respect to the weights that came in and to the constants, where gradients are enabled. Works
    under `no_grad` and `inference_mode` too.
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False), torch.no_grad():
            return descended(loss, weights.clone(), tuple(each.clone() for each in constants), rule, steps)
    wanted = inside_transform() or any(each.requires_grad for each in (weights, *constants))
    order = 2 if torch.is_grad_enabled() and wanted else 0
    weights = leaf(weights) if order == 0 else variable(weights)
    with torch.enable_grad():
        found, _ = inner_loop(
            lambda parameters, buffers: (loss(parameters["weights"], *constants), buffers),
            {"weights": weights},
            {},
            rule,
            steps,
            order,
        )
    return found["weights"] if order else found["weights"].detach()


def _gradients(
    loss: Loss, parameters: Tensors, buffers: Tensors, create_graph: bool
) -> tuple[Tensors, Tensor, Tensors]:
    """The slopes, constants without `create_graph`, the loss as a constant, and the buffers after it."""
    if inside_transform():

        def valued(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, tuple[Tensor, Tensors]]:
            value, buffers = loss(parameters, buffers)
            return value, (value.detach(), buffers)

        slopes, (value, buffers) = torch.func.grad(valued, has_aux=True)(parameters, buffers)
        return slopes if create_graph else {name: g.detach() for name, g in slopes.items()}, value, buffers
    value, buffers = loss(parameters, buffers)
    if not value.requires_grad:  # no adapting parameter takes part
        return {name: torch.zeros_like(p) for name, p in parameters.items()}, value, buffers
    found = torch.autograd.grad(
        value, list(parameters.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(parameters, found, strict=True)), value.detach(), buffers


def leaf(parameter: Tensor) -> Tensor:
    """The same values, as something to differentiate with respect to."""
    return parameter.detach() if inside_transform() else parameter.detach().requires_grad_()


def variable(tensor: Tensor) -> Tensor:
    """The tensor, as a leaf where nothing is differentiated through it so far: autograd knows no others."""
    return tensor if inside_transform() or tensor.requires_grad else leaf(tensor)
