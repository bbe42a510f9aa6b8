"""Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-Shot Learning", ICLR 2021."""

from __future__ import annotations

from typing import Any

from torch import nn

from ._registry import register
from .frozen_learner import FrozenLearner
from .gradient_based import GradientBased
from .heads import find_head, parameters_inside


@register("boil")
class BOIL(GradientBased):
    """MAML with the head left alone in the inner loop (its rate is 0): the body adapts. The outer loop trains both.

    `GradientBased` describes the options. A model without a linear head is refused, unless `head=` names one.
    """

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)
        self.head = find_head(model, self.head)

    def adapts(self) -> set[str]:
        """Every parameter outside the head."""
        assert self.head is not None
        return super().adapts() - parameters_inside(self.model, self.head)

    def clone(self) -> FrozenLearner:
        """A head-freezing learner on higher, with `adapt(loss)` and `forward`."""
        return FrozenLearner(self.model, self.adapts(), self.lr, self.first_order)
