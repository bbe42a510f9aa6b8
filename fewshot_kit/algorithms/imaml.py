"""Rajeswaran, Finn, Kakade and Levine, "Meta-Learning with Implicit Gradients", NeurIPS 2019."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..episodes import Episode
from ..errors import InputError
from ..modules.modes import twice_differentiable
from ..ranges import check_counts, check_rate
from ._registry import register
from .bases.clipping import clipped
from .bases.head_rate import HeadRate
from .bases.inner_loop import Tensors, inner_loop


@register("imaml")
class IMAML(HeadRate):
    """MAML by the implicit function theorem: the meta-gradient depends on the inner loop's end alone, not on its path.

    The inner loop descends the support loss plus `penalty` / 2 times the squared distance to the initialisation
    (equation 3). The meta-gradient v solves (I + H / (penalty + damping)) v = g by conjugate gradient (algorithm 2). H
    is the Hessian of the support loss and g the gradient of the query loss, both at the adapted parameters. Memory does
    not grow with `steps`. Without damping, v is the exact meta-gradient of lemma 1, with which conv4 had not learned
    Omniglot after 220 meta-updates. The paper's released code solves (2 I + H / (penalty + 10)) v = g, which gives the
    same direction as damping 22 at the default penalty of 2. `HeadRate` and `GradientBased` describe the other options.

    Args:
        penalty: the paper's lambda.
        cg_steps: number of steps of conjugate gradient.
        damping: a number added to `penalty` in the solver.
    """

    through_steps = False

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.1,
        *,
        steps: int = 16,
        penalty: float = 2.0,
        cg_steps: int = 5,
        damping: float = 22.0,
        **options: Any,
    ) -> None:
        self.penalty, self.cg_steps, self.damping = penalty, cg_steps, damping
        super().__init__(model, lr, steps=steps, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_rate(penalty=self.penalty)
        check_counts(cg_steps=self.cg_steps)
        if not (math.isfinite(self.damping) and self.damping >= 0):
            raise InputError(f"damping is {self.damping}; it must be 0 or a positive number.")

    def descend(
        self, x: Tensor, y: Tensor, parameters: Tensors, buffers: Tensors, order: int
    ) -> list[tuple[Tensors, Tensors]]:
        """Runs the inner loop on the support loss plus the proximal term."""
        plain, start = self.support_loss(x, y, order), {name: p.detach() for name, p in parameters.items()}

        def loss(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors]:
            value, buffers = plain(parameters, buffers)
            away = torch.stack([(parameters[name] - start[name]).square().sum() for name in start]).sum()
            return value + self.penalty / 2 * away, buffers

        return [inner_loop(loss, parameters, buffers, clipped(self.rule(), self.clip), self.steps, order)]

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns the query loss, whose gradient is the implicit one, and the query scores `[Q, classes]`."""
        with torch.no_grad():
            state = self.adapt(episode.support_x, episode.support_y)
        there: Tensors = state["parameters"]

        def query(parameters: Tensors) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            scores = self.predict({**state, "parameters": parameters}, episode.query_x)
            value = self.criterion(scores, episode.query_y)
            return value, (value, scores)

        with replace(self.policy, twice=False).on_support(self.model), twice_differentiable(self.model):
            plain = self.support_loss(episode.support_x, episode.support_y, 2)
            slopes, (value, scores) = torch.func.grad(query, has_aux=True)(there)
            slope = torch.func.grad(lambda p: plain(p, state["buffers"])[0])
            curvature = torch.func.vjp(slope, there)[1]
            solved = self._solved(slopes, lambda direction: curvature(direction)[0])
            start = self.start(episode.support_x, episode.support_y, state["buffers"], 2)
        # The result has the value of the query loss, and its gradient at the initialisation is the solution.
        towards = [(solved[name].detach() * (p - p.detach())).sum() for name, p in start.items()]
        return value.detach() + torch.stack(towards).sum(), scores.detach()

    def _solved(self, slopes: Tensors, curvature: Callable[[Tensors], Tensors]) -> Tensors:
        """Solves (I + H / (penalty + damping)) v = slopes for v by conjugate gradient."""
        solution = {name: torch.zeros_like(slope) for name, slope in slopes.items()}
        residual = direction = slopes
        size = _dot(residual, residual)
        for _ in range(self.cg_steps):
            turned = _plus(direction, curvature(direction), 1 / (self.penalty + self.damping))
            step = size / (_dot(direction, turned) + TINY)
            solution, residual = _plus(solution, direction, step), _plus(residual, turned, -step)
            smaller = _dot(residual, residual)
            direction, size = _plus(residual, direction, smaller / (size + TINY)), smaller
        return solution


TINY = 1e-30  # avoids a division by 0 once the solution is exact


def _dot(one: Tensors, other: Tensors) -> Tensor:
    return torch.stack([(tensor * other[name]).sum() for name, tensor in one.items()]).sum()


def _plus(one: Tensors, other: Tensors, factor: Tensor | float) -> Tensors:
    return {name: tensor + factor * other[name] for name, tensor in one.items()}
