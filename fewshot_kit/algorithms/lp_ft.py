"""Kumar, Raghunathan, Jones, Ma and Liang, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution", ICLR 2022."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..modules.heads import find_head, head_call
from ._registry import register
from .bases.inner_loop import Tensors
from .finetune import Finetune
from .ridge import Ridge


@register("lp_ft")
class LPFT(Finetune):
    """Linear probing, then fine-tuning: ridge regression gives a new head, then Adam tunes all parameters.

    The model's own head was made for other classes. Ridge regression on the support set's features replaces it, so
    that the first steps do not distort the features to fit a random head. The new head has one output for each class of
    the task. `steps=0` is linear probing. Float targets keep the model's own head. `GradientBased` describes the other
    options.

    Raises:
        InputError: the model has no linear head or does not end with it, or the head's weight is frozen or tied.
    """

    keeps_head = False

    def __init__(self, model: nn.Module, lr: float = 1e-4, *, steps: int = 50, **options: Any) -> None:
        super().__init__(model, lr, steps=steps, **options)
        self.head: str = find_head(model, self.head)

    def check(self) -> None:
        """Raises `InputError` for options out of range, and a head that the model does not have."""
        super().check()
        self.head = find_head(self.model, self.head)

    @property
    def max_ways(self) -> None:
        """None: the head is made for the task."""
        return None

    def descend(
        self, x: Tensor, y: Tensor, parameters: Tensors, buffers: Tensors, order: int
    ) -> list[tuple[Tensors, Tensors]]:
        if y.is_floating_point():
            return super().descend(x, y, parameters, buffers, order)
        return super().descend(x, y, parameters | self._probe(x, y, parameters, buffers), buffers, order)

    def _probe(self, x: Tensor, y: Tensor, parameters: Tensors, buffers: Tensors) -> Tensors:
        weight, bias = (f"{self.head}.{kind}" for kind in ("weight", "bias"))
        with torch.no_grad():
            features = head_call(self.model, self.head, lambda: self.run({}, buffers, x)[0])
            if features is None or weight not in parameters:
                raise InputError(
                    f"LPFT replaces the head '{self.head}' of {type(self.model).__name__}, which must be linear, end "
                    "the model, and be neither frozen nor tied; name another by head=, or take algorithm='finetune'."
                )
            dtype = features.dtype
            features = features.to(torch.promote_types(dtype, torch.float32))  # torch does not solve in half precision
            fitted = Ridge(nn.Identity()).fit(F.normalize(features, dim=-1), y)
            # Ridge regression saw features of length 1. The head sees their own lengths, which are all near the mean.
            solved = {weight: (fitted["weights"].mT / features.norm(dim=-1).mean()).contiguous()}
            if bias in parameters:
                solved[bias] = fitted["bias"]
        return {name: value.detach().to(dtype).requires_grad_() for name, value in solved.items()}
