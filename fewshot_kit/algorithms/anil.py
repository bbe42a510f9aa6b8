"""Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
of MAML", ICLR 2020. The head in closed form is from Bertinetto, Henriques, Torr and Vedaldi, ICLR 2019."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from ..errors import InputError
from ..modules.heads import head_call
from ..ranges import check_rate
from ._registry import register
from .bases.descent import Descent
from .bases.frozen_learner import FrozenLearner
from .bases.inner_loop import Loss, Tensors
from .bases.split_at_head import SplitAtHead
from .r2d2 import ridge


@register("anil")
class ANIL(SplitAtHead):
    """MAML whose inner loop adapts the head only ("almost no inner loop"). The outer loop trains everything.

    The features of the support set are computed once for all steps, so dropout inside the body is drawn once.
    `GradientBased` describes the other options. `clone()` returns a learner on higher that freezes the body.

    With `closed_form=True` there are no gradient steps: `lr` and `steps` are not used, and `clip` is refused. The
    adapted head is a ridge regression that stays close to the learned head W0: W = argmin |X W - Y|^2 + penalty |W -
    W0|^2. The penalty and the height of the one-hot targets Y are learned. R2-D2 is the case W0 = 0.

    Args:
        closed_form: solve for the head instead of descending.
        penalty: initial value of the ridge penalty, whose logarithm is learned.
    """

    fixed = frozenset({"closed_form", "penalty"})

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.5,
        first_order: bool = False,
        *,
        closed_form: bool = False,
        penalty: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(model, lr, first_order, **options)
        check_rate(penalty=penalty)
        self._closed_form = closed_form
        if closed_form and first_order:
            raise InputError(
                "A head in closed form has no first order; leave first_order=True or closed_form=True out."
            )
        if closed_form:
            head = model.get_submodule(self.head)
            if not isinstance(head, nn.Linear):
                raise InputError(f"'{self.head}' is a {type(head).__name__}; a head in closed form must be linear.")
            self.log_penalty = nn.Parameter(head.weight.new_tensor(math.log(penalty)))
            self.height = nn.Parameter(head.weight.new_tensor(10.0))

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self._closed_form and self.clip is not None:
            raise InputError(
                f"A head in closed form takes no gradient steps; leave clip={self.clip:g} or closed_form=True out."
            )

    def adapts(self) -> set[str]:
        """Returns the names of the head's parameters."""
        return self.head_parameters()

    def descent(self, same: Mapping[str, Callable[..., Any]] | None = None) -> Descent:
        """Returns the inner loop; a head in closed form takes no steps."""
        if self._closed_form:
            raise InputError("A head in closed form takes no gradient steps.")
        return super().descent({"support_loss": ANIL.support_loss, "descend": ANIL.descend, **(same or {})})

    def support_loss(self, x: Tensor, y: Tensor, order: int) -> Loss:
        """Returns the loss as a function of the head alone, or of the model if the model does not end with its head."""
        inside = self.head + "."
        if not all(name.startswith(inside) for name in self.adapts()):  # a weight that the body uses too
            return super().support_loss(x, y, order)
        features = self._features(x, order)
        if features is None:
            return super().support_loss(x, y, order)
        head = self.model.get_submodule(self.head)

        def loss(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors]:
            moved = {name.removeprefix(inside): parameter for name, parameter in parameters.items()}
            return self.criterion(functional_call(head, moved, (features,)), y), buffers

        return loss

    def _features(self, x: Tensor, order: int) -> Tensor | None:
        """Returns the input of the head; None if the model does not end with its head."""
        with torch.set_grad_enabled(order == 2):
            return head_call(self.model, self.head, lambda: self.run({}, dict(self.model.named_buffers()), x)[0])

    def descend(
        self, x: Tensor, y: Tensor, parameters: Tensors, buffers: Tensors, order: int
    ) -> list[tuple[Tensors, Tensors]]:
        if not self._closed_form:
            return super().descend(x, y, parameters, buffers, order)
        features = self._features(x, order)
        if features is None:
            raise InputError(
                f"{type(self.model).__name__} does not end with its head '{self.head}', which closed_form=True needs."
            )
        weight, bias = (f"{self.head}.{kind}" for kind in ("weight", "bias"))
        if weight not in parameters:
            raise InputError(f"The weight of '{self.head}' is frozen or tied; a head in closed form must be free.")
        moved, start = dict(parameters), parameters[weight]
        if bias in parameters:  # the bias is the weight of one more feature, which is always 1
            features = F.pad(features, (0, 1), value=1.0)
            start = torch.cat([start, parameters[bias][:, None]], 1)
        targets = (
            y.view(len(x), -1) if y.is_floating_point() else self.height * F.one_hot(y, len(start)).to(start.dtype)
        )
        solved = start + ridge(features, targets - features @ start.T, self.log_penalty.exp()).T
        if bias in parameters:
            moved[bias], solved = solved[:, -1], solved[:, :-1]
        return [(moved | {weight: solved}, buffers)]

    def clone(self) -> FrozenLearner:
        """Returns a learner on higher, with `adapt(loss)` and `forward`, that freezes the body."""
        if self._closed_form:
            raise InputError("A head in closed form does not follow a loss; use adapt(x, y) and predict(state, x).")
        return super().clone()
