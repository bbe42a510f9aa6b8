"""Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-Shot Learning", ICLR 2021."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ._registry import register
from .heads import head_call
from .split_at_head import SplitAtHead

EXAMPLES = 1000  # of the training split, that a neutral head is silent on


@register("boil")
class BOIL(SplitAtHead):
    """MAML with the head left alone in the inner loop (its rate is 0): the body adapts. The outer loop trains both.

    `GradientBased` describes the other options. `clone()` is a head-freezing learner on higher.

    Args:
        neutral_head: before training, take out of the head's weights what they say of the training images' features.
            A head that was drawn at random prefers some class for every image; what a trained body's features are
            then has to be undone in every task before anything is learned. So its scores are the same for all
            classes at first, and the body moves its features along directions that are still free.

    Raises:
        InputError: as `GradientBased`; a neutral head that is not linear or does not end the model.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.5,
        first_order: bool = False,
        *,
        neutral_head: bool = False,
        **options: Any,
    ) -> None:
        self.neutral_head = neutral_head
        super().__init__(model, lr, first_order, **options)

    def adapts(self) -> set[str]:
        """Every parameter outside the head."""
        return super().adapts() - self.head_parameters()

    def begin(self, split: Any, iterations: int) -> None:
        """Make the head neutral, where that is asked for."""
        if not self.neutral_head:
            return
        head = self.model.get_submodule(self.head)
        beside = next(self.model.parameters())
        x = split.labelled(EXAMPLES, torch.Generator().manual_seed(0), beside.device)[0].to(beside.dtype)
        with torch.no_grad(), self._adapting():
            buffers = dict(self.model.named_buffers())
            features = head_call(self.model, self.head, lambda: self._run({}, buffers, x)[0])
            if features is None or not isinstance(head, nn.Linear):
                raise InputError(
                    f"'{self.head}' of {type(self.model).__name__} is not linear or does not end it, as "
                    "neutral_head=True needs; name another by head=, or leave neutral_head out."
                )
            # W - W P with P the projection on the features' span, by the matrix of their products: with far more
            # features than images, that is the small one. A thousandth of a percent keeps it invertible.
            products = (features @ features.T).double()
            products += 1e-5 * products.diagonal().mean() * torch.eye(len(x), dtype=products.dtype, device=x.device)
            said = torch.linalg.solve(products, (features @ head.weight.T).double()).to(features.dtype)
            head.weight -= said.T @ features
