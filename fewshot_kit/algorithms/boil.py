"""Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-Shot Learning", ICLR 2021."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..datasets.splits.contract import TaskSplit, with_classes
from ..errors import InputError
from ..modules.heads import head_call
from ..modules.place import place_of
from ._registry import register
from .bases.descent import Descent
from .bases.split_at_head import SplitAtHead
from .bases.task_classes import class_count

EXAMPLES = 1000  # number of training examples that make a head neutral


@register("boil")
class BOIL(SplitAtHead):
    """MAML whose inner loop adapts the body only: the head's rate is 0. The outer loop trains everything.

    `GradientBased` describes the other options. `clone()` returns a learner on higher that freezes the head.

    Args:
        neutral_head: before training, project the head's weights so that they score the training images' features the
            same for all classes. A random head prefers some class for every image, and the body of a trained network
            would first have to undo this in every task. With a neutral head, the body moves its features along
            directions that are still free.
        all_shifts: adapt once for every cyclic shift of a task's class numbers, and score by the mean probability. The
            head does not adapt, so some of its rows learn a class better than others; this option gives each class
            every row once. The state is then `{"shifted": [one state for each shift]}`, and the time grows by the
            number of classes.

    Raises:
        InputError: as `GradientBased`; a neutral head is asked for, and the head is not linear or not the model's end.
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
        """Returns the names of all parameters outside the head."""
        return super().adapts() - self.head_parameters()

    def descent(self, same: Mapping[str, Callable[..., Any]] | None = None) -> Descent:
        """Returns the inner loop; `all_shifts` takes more than one."""
        if self.all_shifts:
            raise InputError("With all_shifts=True, BOIL adapts several times.")
        return super().descent({"adapt": BOIL.adapt, "predict": BOIL.predict, **(same or {})})

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"parameters", "buffers", "statistics"}`, or `{"shifted": [these]}`."""
        if not self.all_shifts:
            return super().adapt(x, y)
        if y.is_floating_point():
            raise InputError("all_shifts=True renumbers classes, and these targets are floats; leave it out.")
        classes = class_count(y)
        return {"shifted": [super(BOIL, self).adapt(x, (y + shift) % classes) for shift in range(classes)]}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`; with `all_shifts`, logarithms of mean probabilities."""
        if "shifted" not in state:
            return super().predict(state, x)
        classes = len(state["shifted"])
        found = []
        for shift, each in enumerate(state["shifted"]):
            scores = super().predict(each, x).log_softmax(-1)
            found.append(torch.cat([scores[:, :classes].roll(-shift, -1), scores[:, classes:]], 1))
        return torch.stack(found).logsumexp(0) - math.log(classes)

    def check_clonable(self) -> None:
        """Raises `InputError` if a single learner would not do the same."""
        super().check_clonable()
        if self.all_shifts:
            raise InputError("A clone is one learner, and all_shifts=True takes one for each class; use adapt(x, y).")

    def begin(self, split: TaskSplit, iterations: int) -> None:
        """Makes the head neutral, if `neutral_head` asks for it."""
        if not self.neutral_head:
            return
        head = self.model.get_submodule(self.head)
        place = place_of(self.model)
        labelled = with_classes(split, f"{type(self).__name__}(neutral_head=True)")
        x = labelled.labelled(EXAMPLES, torch.Generator().manual_seed(0), place["device"])[0].to(place["dtype"])
        with torch.no_grad(), self.policy.on_support(self.model):
            buffers = dict(self.model.named_buffers())
            features = head_call(self.model, self.head, lambda: self.run({}, buffers, x)[0])
            if features is None or not isinstance(head, nn.Linear):
                raise InputError(
                    f"'{self.head}' of {type(self.model).__name__} is not linear or does not end it, as "
                    "neutral_head=True needs; name another by head=, or leave neutral_head out."
                )
            # The new weights are W - W P, where P projects on the span of the features. With far more features than
            # images, the matrix of the images' inner products is the small one. Adding 1e-5 of its mean diagonal to the
            # diagonal keeps it invertible.
            products = (features @ features.T).double()
            products += 1e-5 * products.diagonal().mean() * torch.eye(len(x), dtype=products.dtype, device=x.device)
            said = torch.linalg.solve(products, (features @ head.weight.T).double()).to(features.dtype)
            head.weight -= said.T @ features
