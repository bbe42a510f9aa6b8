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

    Takes learn2learn's arguments, `MAML(model, lr, first_order=False, allow_unused=True, allow_nograd=True)`, and gives
    its learner. `HeadRate` and `GradientBased` describe the other options.

    Args:
        allow_unused, allow_nograd: for `clone()` alone: whether its learner leaves unused and frozen parameters as they
            are, or refuses them as learn2learn does by default. `adapt(x, y)` and the engines always leave them.
    """

    not_options = frozenset({"allow_unused", "allow_nograd"})

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.5,
        first_order: bool = False,
        allow_unused: bool | None = True,
        allow_nograd: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(model, lr, first_order, **options)
        self.allow_unused, self.allow_nograd = allow_unused, allow_nograd

    def clone(
        self, first_order: bool | None = None, allow_unused: bool | None = None, allow_nograd: bool | None = None
    ) -> Any:
        """learn2learn's own `MAML` clone: `adapt(loss)` and `forward`; back-propagation reaches this model.

        None is what this object was made with.
        """
        self.check_clonable()
        wrapper = compat.learn2learn().algorithms.MAML
        own = wrapper(self.model, self.lr, self.first_order, self.allow_unused, self.allow_nograd)
        return own.clone(first_order, allow_unused, allow_nograd)


@register("fomaml")
class FOMAML(MAML):
    """First-order MAML: the same loop, without the derivative of the inner gradients (section 5.2)."""

    def __init__(self, model: nn.Module, lr: float = 0.5, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, **options)
