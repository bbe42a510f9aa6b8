"""The base of the inner-loop algorithms that adapt all parameters; the head may have its own learning rate."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...errors import InputError
from ...modules.heads import find_head, parameters_inside
from ...ranges import check_rate
from .gradient_based import GradientBased
from .inner_loop import Rule, sgd


class HeadRate(GradientBased):
    """Every parameter adapts. `GradientBased` describes the other options.

    Args:
        head_lr: learning rate of the head, by default `lr`. A new head needs a larger rate than a trained body
            tolerates.

    Raises:
        InputError: as `GradientBased`; `head_lr` is no positive number, the model has no head, or the optimizer is
            Adam, which takes one rate for all parameters.
    """

    def __init__(
        self, model: nn.Module, lr: float, first_order: bool = False, *, head_lr: float | None = None, **options: Any
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

    def inner_rates(self) -> dict[str, float]:
        """Returns `head_lr` for the head's parameters and `lr` for all others, by name in the model's order."""
        head = set() if self.head_lr is None else parameters_inside(self.model, find_head(self.model, self.head))
        return {
            name: self.lr if self.head_lr is None or name not in head else self.head_lr
            for name, _ in self.model.named_parameters()
        }

    def rule(self) -> Rule:
        """Returns the rule of `optimizer`, with the head's own rate if it has one."""
        return super().rule() if self.head_lr is None else sgd(self.inner_rates())

    def check_clonable(self) -> None:
        """Raises `InputError` if learn2learn's learners would not do the same."""
        super().check_clonable()
        if self.head_lr is not None:
            raise InputError(
                f"learn2learn's learner has one rate for all, and head_lr is {self.head_lr}; use adapt(x, y) and "
                "predict(state, x), or no head_lr."
            )
