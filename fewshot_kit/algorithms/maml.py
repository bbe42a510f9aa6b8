"""Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017."""

from __future__ import annotations

from typing import Any

from torch import nn

from .. import compat
from ._registry import register
from .bases.head_rate import HeadRate


@register("maml")
class MAML(HeadRate):
    """An initialisation from which a few gradient steps solve a new task. Every parameter adapts.

    Takes learn2learn's arguments, `MAML(model, lr, first_order=False)`, and gives its learner.
    `HeadRate` and `GradientBased` describe the other options.
    """

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)

    def clone(self, first_order: bool | None = None) -> Any:
        """learn2learn's own `MAML` clone: `adapt(loss)` and `forward`; back-propagation reaches this model."""
        self.check_clonable()
        order = self.first_order if first_order is None else first_order
        learner = compat.learn2learn().algorithms.MAML
        # What can adapt is derived from the model: frozen and unused parameters are simply left alone.
        return learner(self.model, self.lr, first_order=order, allow_unused=True, allow_nograd=True).clone()


@register("fomaml")
class FOMAML(MAML):
    """First-order MAML: the same loop, without the derivative of the inner gradients (section 5.2)."""

    def __init__(self, model: nn.Module, lr: float = 0.5, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, **options)
