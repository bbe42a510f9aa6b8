"""What BOIL and ANIL share: a model in two parts, the head and the rest, of which one adapts."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...modules.heads import find_head, parameters_inside
from .frozen_learner import FrozenLearner
from .gradient_based import GradientBased


class SplitAtHead(GradientBased):
    """A subclass says which part `adapts`. A model without a linear head is refused, unless `head=` names one."""

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)
        self.head: str = find_head(model, self.head)

    def check(self) -> None:
        """Raises `InputError` for options out of range, and a head that the model does not have."""
        super().check()
        self.head = find_head(self.model, self.head)

    def head_parameters(self) -> set[str]:
        """Names of the head's parameters."""
        return parameters_inside(self.model, self.head)

    def clone(self) -> FrozenLearner:
        """A learner on higher that freezes the other part, with `adapt(loss)` and `forward`."""
        self.check_clonable()
        return FrozenLearner(self.model, self.adapts(), self.lr, self.first_order)
