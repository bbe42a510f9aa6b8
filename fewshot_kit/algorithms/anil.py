"""Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
of MAML", ICLR 2020."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call

from ._registry import register
from .heads import head_call
from .inner_loop import Loss, Tensors
from .split_at_head import SplitAtHead


@register("anil")
class ANIL(SplitAtHead):
    """MAML whose inner loop adapts the head only ("almost no inner loop"). The outer loop trains everything.

    The features of the support set are computed once, not once a step (so dropout inside the body is drawn once).
    `GradientBased` describes the options. `clone()` is a body-freezing learner on higher.
    """

    def adapts(self) -> set[str]:
        """The head's parameters."""
        return self.head_parameters()

    def support_loss(self, x: Tensor, y: Tensor, order: int) -> Loss:
        """The loss as a function of the head alone, where the model ends with its head; of the model, where not."""
        inside = self.head + "."
        if not all(name.startswith(inside) for name in self.adapts()):  # a weight that the body uses too
            return super().support_loss(x, y, order)
        with torch.set_grad_enabled(order == 2):
            features = head_call(self.model, self.head, lambda: self._run({}, dict(self.model.named_buffers()), x)[0])
        if features is None:
            return super().support_loss(x, y, order)
        head = self.model.get_submodule(self.head)

        def loss(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors]:
            moved = {name.removeprefix(inside): parameter for name, parameter in parameters.items()}
            return self.criterion(functional_call(head, moved, (features,)), y), buffers

        return loss
