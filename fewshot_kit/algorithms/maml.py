"""Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017."""

from __future__ import annotations

from typing import Any

from torch import nn

from .. import compat
from ._registry import register
from .bases.head_rate import HeadRate


@register("maml")
class MAML(HeadRate):
    """Learns an initialisation from which a few gradient steps solve a new task. Every parameter adapts.

    It takes learn2learn's arguments, `MAML(model, lr, first_order=False, allow_unused=True, allow_nograd=True)`, and
    `clone()` returns learn2learn's learner. `HeadRate` and `GradientBased` describe the other options.

    Args:
        allow_unused, allow_nograd: options of `clone()` alone. True leaves unused and frozen parameters as they are,
            False refuses them (learn2learn's default). `adapt(x, y)` and the engines always leave them as they are.
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
        """Returns learn2learn's own `MAML` clone, with `adapt(loss)` and `forward`; gradients reach this model.

        None for an argument stands for the value that this object was made with.
        """
        self.check_clonable()
        wrapper = compat.learn2learn().algorithms.MAML
        own = wrapper(self.model, self.lr, self.first_order, self.allow_unused, self.allow_nograd)
        return own.clone(first_order, allow_unused, allow_nograd)


@register("fomaml")
class FOMAML(MAML):
    """First-order MAML: MAML without the derivative of the inner gradients (section 5.2)."""

    def __init__(self, model: nn.Module, lr: float = 0.5, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, **options)
