"""The inner loop of all gradient-based algorithms, and its update rules, in the style of optax.

A rule is two pure functions. Its memory, such as Adam's moments, is passed in and returned, never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...modules.private import inside_transform
from .recomputed import Within, recomputed

Tensors = dict[str, Tensor]
# (adapting parameters, buffers) -> (loss, buffers after the forward pass)
Loss = Callable[[Tensors, Tensors], tuple[Tensor, Tensors]]


class Rule(NamedTuple):
    """An update rule, as two functions.

    `init(parameters)` returns the memory before the first step. `update(parameters, gradients, loss, memory, step)`
    returns the parameters and the memory after a step. The loss is passed as a constant. `rates` says that the rule is
    plain gradient descent, and at which rates, as `sgd` takes them; None stands for any other rule.
    """

    init: Callable[[Tensors], Any]
    update: Callable[[Tensors, Tensors, Tensor, Any, int], tuple[Tensors, Any]]
    rates: float | Mapping[str, Tensor | float] | None = None


def sgd(lr: float | Mapping[str, Tensor | float]) -> Rule:
    """Returns plain gradient descent, p - lr * g, with one rate, one for each parameter, or one for each element."""

    def update(parameters: Tensors, gradients: Tensors, loss: Tensor, memory: None, step: int) -> tuple[Tensors, None]:
        if isinstance(lr, Mapping):
            return {name: p - lr[name] * gradients[name] for name, p in parameters.items()}, None
        return {name: torch.sub(p, gradients[name], alpha=lr) for name, p in parameters.items()}, None

    return Rule(lambda parameters: None, update, lr)


def adam(lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Rule:
    """Returns the rule of Adam (Kingma and Ba, 2015, algorithm 1)."""
    beta1, beta2 = betas

    def init(parameters: Tensors) -> tuple[Tensors, Tensors]:
        # Squares of float16 gradients are soon 0, and so is eps.
        wide = {p.dtype: torch.promote_types(p.dtype, torch.float32) for p in parameters.values()}
        zeros = ({name: torch.zeros_like(p, dtype=wide[p.dtype]) for name, p in parameters.items()} for _ in range(2))
        return tuple(zeros)  # type: ignore[return-value]

    def update(
        parameters: Tensors, gradients: Tensors, loss: Tensor, memory: tuple[Tensors, Tensors], step: int
    ) -> tuple[Tensors, tuple[Tensors, Tensors]]:
        first, second = (dict(moments) for moments in memory)
        moved = {}
        for name, p in parameters.items():
            gradient = gradients[name].to(first[name].dtype)
            first[name] = beta1 * first[name] + (1 - beta1) * gradient
            second[name] = beta2 * second[name] + (1 - beta2) * gradient**2
            mean = first[name] / (1 - beta1 ** (step + 1))
            spread = second[name] / (1 - beta2 ** (step + 1))
            moved[name] = (p - lr * mean / (spread.sqrt() + eps)).to(p.dtype)
        return moved, (first, second)

    return Rule(init, update)


# The rules that the option `optimizer` can name. Each is a function of the learning rate.
RULES: dict[str, Callable[[float], Rule]] = {"sgd": sgd, "adam": adam}


def inner_loop(
    loss: Loss,
    parameters: Tensors,
    buffers: Tensors,
    rule: Rule,
    steps: int,
    order: int,
    *,
    truncate: int | None = None,
    again: Within | None = None,
) -> tuple[Tensors, Tensors]:
    """Takes `steps` updates of `parameters` by `rule` along the gradient of `loss`.

    The loss takes the buffers and returns the new ones, so that no module is changed.

    Args:
        loss: `(parameters, buffers) -> (scalar, buffers)`.
        order: 2 leaves the result differentiable with respect to the initial parameters. 1 does so too, but treats the
            gradients as constants (FOMAML). 0 keeps no graph from one step to the next.
        truncate: number of last steps that keep a graph, by default all. The gradient with respect to the parameters
            before these steps becomes, unchanged, that with respect to the initial parameters.
        again: makes the context in which a step is computed again in the outer backward pass (`recomputed`). None
            keeps what every step saved.

    Returns:
        The adapted parameters and the buffers after the last step.
    """
    memory, start = rule.init(parameters), parameters
    device = next((p.device for p in parameters.values()), torch.device("cpu"))
    joined = steps - truncate if truncate is not None and order > 0 else 0  # the first step that keeps a graph

    def one(parameters: Tensors, buffers: Tensors, memory: Any, step: int, order: int) -> tuple[Tensors, Tensors, Any]:
        gradients, value, buffers = _gradients(loss, parameters, buffers, create_graph=order == 2)
        with torch.set_grad_enabled(order > 0):
            parameters, memory = rule.update(parameters, gradients, value, memory, step)
        return parameters, buffers, memory

    for step in range(steps):
        if step == joined > 0:
            parameters, buffers = _from(start, parameters), _constant(buffers)
        kept = order if step >= joined else 0
        if again is None or kept == 0:
            parameters, buffers, memory = one(parameters, buffers, memory, step, kept)
        else:
            parameters, buffers, memory = recomputed(one, again, device, parameters, buffers, memory, step, kept)
        if kept == 0:
            parameters = {name: leaf(p) for name, p in parameters.items()}
    return (_from(start, parameters) if steps == joined > 0 else parameters), buffers


def _constant(tensors: Tensors) -> Tensors:
    return {name: tensor.detach() for name, tensor in tensors.items()}


def _from(start: Tensors, parameters: Tensors) -> Tensors:
    """Returns the parameters, with a gradient that is passed on to `start` as it is."""
    return {name: p.detach() + (start[name] - start[name].detach()) for name, p in parameters.items()}


def descended(
    loss: Callable[..., Tensor], weights: Tensor, constants: tuple[Tensor, ...], rule: Rule, steps: int
) -> Tensor:
    """Returns a head's weights after `steps` updates by `rule` along the gradient of `loss(weights, *constants)`.

    The result is differentiable with respect to the initial weights and the constants, if gradients are enabled. The
    function works under `no_grad` and `inference_mode` too.
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
    """Returns the gradients (constants without `create_graph`), the loss as a constant, and the new buffers."""
    if inside_transform():

        def valued(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, tuple[Tensor, Tensors]]:
            value, buffers = loss(parameters, buffers)
            return value, (value.detach(), buffers)

        slopes, (value, buffers) = torch.func.grad(valued, has_aux=True)(parameters, buffers)
        return slopes if create_graph else {name: g.detach() for name, g in slopes.items()}, value, buffers
    value, buffers = loss(parameters, buffers)
    if not value.requires_grad:  # the loss depends on no adapting parameter
        return {name: torch.zeros_like(p) for name, p in parameters.items()}, value, buffers
    found = torch.autograd.grad(
        value, list(parameters.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
    return dict(zip(parameters, found, strict=True)), value.detach(), buffers


def leaf(parameter: Tensor) -> Tensor:
    """Returns a tensor of the same values that is a leaf of the graph, to differentiate with respect to."""
    return parameter.detach() if inside_transform() else parameter.detach().requires_grad_()


def variable(tensor: Tensor) -> Tensor:
    """Returns the tensor, made a leaf if it needs no gradient yet: autograd differentiates only by tensors that do."""
    return tensor if inside_transform() or tensor.requires_grad else leaf(tensor)
