"""Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017."""

from __future__ import annotations

from typing import Any

from torch import nn

from .. import compat
from ..errors import InputError
from ..ranges import check_rate
from ._registry import register
from .gradient_based import GradientBased
from .heads import find_head, parameters_inside
from .inner_loop import Rule, sgd


@register("maml")
class MAML(GradientBased):
    """An initialisation from which a few gradient steps solve a new task. Every parameter adapts.

    Takes learn2learn's arguments, `MAML(model, lr, first_order=False)`, and gives its learner.
    `GradientBased` describes the other options.

    Args:
        head_lr: the head's own rate, where it needs another than the rest: a trained body is soon torn by the rate at
            which a new head learns. By default `lr`.

    Raises:
        InputError: as `GradientBased`; a `head_lr` that is no positive number, without a head to have it, or with
            Adam, whose steps have one size for all.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.5,
        first_order: bool = False,
        *,
        head_lr: float | None = None,
        **options: Any,
    ) -> None:
        self.head_lr = head_lr
        super().__init__(model, lr, first_order, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self.head_lr is None:
            return
        check_rate(head_lr=self.head_lr)
        find_head(self.model, self.head)
        if self.optimizer != "sgd":
            raise InputError(f"head_lr is for plain steps, and optimizer is {self.optimizer!r}; leave one of them out.")

    def rule(self) -> Rule:
        """The steps of `optimizer`, the head's at its own rate where it has one."""
        if self.head_lr is None:
            return super().rule()
        inside = parameters_inside(self.model, find_head(self.model, self.head))
        return sgd({name: self.head_lr if name in inside else self.lr for name in self.adapts()})

    def clone(self, first_order: bool | None = None) -> Any:
        """learn2learn's own `MAML` clone: `adapt(loss)` and `forward`; back-propagation reaches this model."""
        self.check_clonable()
        if self.head_lr is not None:
            raise InputError("learn2learn's MAML has one rate; use adapt(x, y) and predict(state, x), or no head_lr.")
        order = self.first_order if first_order is None else first_order
        learner = compat.learn2learn().algorithms.MAML
        # What can adapt is derived from the model: frozen and unused parameters are simply left alone.
        return learner(self.model, self.lr, first_order=order, allow_unused=True, allow_nograd=True).clone()


@register("fomaml")
class FOMAML(MAML):
    """First-order MAML: the same loop, without the derivative of the inner gradients (section 5.2)."""

    def __init__(self, model: nn.Module, lr: float = 0.5, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, **options)
