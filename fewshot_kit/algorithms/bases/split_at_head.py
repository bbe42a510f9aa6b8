"""The base of BOIL and ANIL: the model has two parts, the head and the body, and one of them adapts."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...modules.heads import find_head, parameters_inside
from .frozen_learner import FrozenLearner
from .gradient_based import GradientBased


class SplitAtHead(GradientBased):
    """A subclass says which part `adapts`. A model without a linear head is refused unless `head=` names the head."""

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)
        self.head: str = find_head(model, self.head)

    def check(self) -> None:
        """Raises `InputError` for options out of range, and a head that the model does not have."""
        super().check()
        self.head = find_head(self.model, self.head)

    def head_parameters(self) -> set[str]:
        """Returns the names of the head's parameters."""
        return parameters_inside(self.model, self.head)

    def clone(self) -> FrozenLearner:
        """Returns a learner on higher, with `adapt(loss)` and `forward`, that freezes the other part."""
        self.check_clonable()
        return FrozenLearner(self.model, self.adapts(), self.lr, self.first_order)
