"""Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", 2018."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..episodes import Episode
from ._registry import register
from .gradient_based import GradientBased
from .inner_loop import Rule, adam


@register("reptile")
class Reptile(GradientBased):
    """Moves the initialisation towards what each task makes of it. `GradientBased` describes the other options.

    The inner loop is Adam without momentum, as in the paper's own experiments. In meta-training it sees the whole
    episode, support and query (algorithm 1 knows one training set a task); a new task is adapted to on its support set.
    """

    def __init__(self, model: nn.Module, lr: float = 0.003, *, steps: int = 8, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, steps=steps, **options)

    def rule(self) -> Rule:
        """Adam with beta1 = 0, at the rate `lr`."""
        return adam(self.lr, betas=(0.0, 0.999))

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Half the squared distance to the task's parameters, whose gradient is Reptile's theta - theta'.

        The scores `[Q, classes]` are the adapted model's, on queries that it was adapted to.
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
