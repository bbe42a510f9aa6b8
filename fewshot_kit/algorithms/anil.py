"""Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
of MAML", ICLR 2020."""

from __future__ import annotations

from typing import Any

from torch import nn

from ._registry import register
from .frozen_learner import FrozenLearner
from .gradient_based import GradientBased
from .heads import find_head, parameters_inside


@register("anil")
class ANIL(GradientBased):
    """MAML whose inner loop adapts the head only ("almost no inner loop"). The outer loop trains everything.

    `GradientBased` describes the options. A model without a linear head is refused, unless `head=` names one.
    """

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)
        self.head = find_head(model, self.head)

    def adapts(self) -> set[str]:
        """The head's parameters."""
        assert self.head is not None
        return parameters_inside(self.model, self.head)

    def clone(self) -> FrozenLearner:
        """A body-freezing learner on higher, with `adapt(loss)` and `forward`."""
        return FrozenLearner(self.model, self.adapts(), self.lr, self.first_order)
