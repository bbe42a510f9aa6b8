"""Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from ..episodes import Episode, presentations
from ..ranges import check_counts
from ._registry import register
from .bases.gradient_based import GradientBased
from .bases.inner_loop import Loss, Rule, Tensors, adam


@register("reptile")
class Reptile(GradientBased):
    """Moves the initialisation towards each task's adapted parameters. `GradientBased` describes the other options.

    The inner loop is Adam without momentum on mini-batches, as in the paper's own experiments. Mini-batches matter,
    since Reptile learns from how a step on some examples helps on others (section 5). In meta-training the inner loop
    sees the whole episode, support set and queries, as algorithm 1 has only one training set for a task. It adapts to a
    new task on the support set alone.

    Args:
        batch: number of examples in a mini-batch, or a few more if they do not divide evenly. The mini-batches take the
            examples of a task in turn: the first example of every class, then the second of every class, and so on.
    """

    takes_rules = False
    through_steps = False

    def __init__(self, model: nn.Module, lr: float = 0.003, *, steps: int = 8, batch: int = 10, **options: Any) -> None:
        self.batch = batch
        super().__init__(model, lr, first_order=True, steps=steps, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_counts(batch=self.batch)

    def rule(self) -> Rule:
        """Returns Adam with beta1 = 0, at the rate `lr`."""
        return adam(self.lr, betas=(0.0, 0.999))

    def support_loss(self, x: Tensor, y: Tensor, order: int) -> Loss:
        """Returns a loss that takes the next mini-batch at each call."""
        count = max(1, len(y) // self.batch)
        turn = torch.arange(len(y), device=y.device) if y.is_floating_point() else presentations(y).argsort(stable=True)
        parts = zip(x[turn].tensor_split(count), y[turn].tensor_split(count), strict=True)
        losses = itertools.cycle([super(Reptile, self).support_loss(*part, order) for part in parts])

        def loss(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors]:
            return next(losses)(parameters, buffers)

        return loss

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns half the squared distance to the task's parameters, whose gradient is Reptile's theta - theta'.

        The second result is the adapted model's scores `[Q, classes]`, on queries that it was adapted to.
        """
        x = torch.cat([episode.support_x, episode.query_x])
        y = torch.cat([episode.support_y, episode.query_y])
        with torch.no_grad():
            state = self.adapt(x, y)
            scores = self.predict(state, episode.query_x)
        there = state["parameters"]
        own = {name: parameter for name, parameter in self.model.named_parameters() if name in there}
        squares = [(parameter - there[name].detach()).square().sum() for name, parameter in own.items()]
        return torch.stack(squares).sum() / 2, scores
