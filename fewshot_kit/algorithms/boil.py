"""Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-Shot Learning", ICLR 2021."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets.splits.contract import TaskSplit, with_classes
from ..errors import InputError
from ..modules.heads import head_call
from ._registry import register
from .bases.split_at_head import SplitAtHead
from .bases.task_classes import class_count

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
        all_shifts: adapt once for every cyclic shift of a task's class numbers, and score by the mean probability. The
            rows of the head stay as they are, so that a class is learned better by one row than by another; here each
            has every row once. The state is then `{"shifted": [one for each class]}`, and takes as many times as long.

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
        all_shifts: bool = False,
        **options: Any,
    ) -> None:
        self.neutral_head, self.all_shifts = neutral_head, all_shifts
        super().__init__(model, lr, first_order, **options)

    def adapts(self) -> set[str]:
        """Every parameter outside the head."""
        return super().adapts() - self.head_parameters()

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"parameters", "buffers", "statistics"}`, or `{"shifted": [these]}`."""
        if not self.all_shifts:
            return super().adapt(x, y)
        if y.is_floating_point():
            raise InputError("all_shifts=True renumbers classes, and these targets are floats; leave it out.")
        classes = class_count(y)
        return {"shifted": [super(BOIL, self).adapt(x, (y + shift) % classes) for shift in range(classes)]}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`; with `all_shifts`, logarithms of the mean probability."""
        if "shifted" not in state:
            return super().predict(state, x)
        classes = len(state["shifted"])
        found = []
        for shift, each in enumerate(state["shifted"]):
            scores = super().predict(each, x).log_softmax(-1)
            found.append(torch.cat([scores[:, :classes].roll(-shift, -1), scores[:, classes:]], 1))
        return torch.stack(found).logsumexp(0) - math.log(classes)

    def check_clonable(self) -> None:
        """Raises `InputError` where one learner would do something else."""
        super().check_clonable()
        if self.all_shifts:
            raise InputError("A clone is one learner, and all_shifts=True takes one for each class; use adapt(x, y).")

    def begin(self, split: TaskSplit, iterations: int) -> None:
        """Make the head neutral, where that is asked for."""
        if not self.neutral_head:
            return
        head = self.model.get_submodule(self.head)
        beside = next(self.model.parameters())
        labelled = with_classes(split, f"{type(self).__name__}(neutral_head=True)")
        x = labelled.labelled(EXAMPLES, torch.Generator().manual_seed(0), beside.device)[0].to(beside.dtype)
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
