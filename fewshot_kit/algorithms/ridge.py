"""Ridge regression as a classifier on frozen features: Bertinetto, Henriques, Torr and Vedaldi, "Meta-learning with
Differentiable Closed-form Solvers", ICLR 2019, with the strength by held-out folds instead of learned across tasks."""

from __future__ import annotations

from torch import Tensor

from ._registry import register
from .bases.linear_head import LinearHead, smoother


@register("ridge")
class Ridge(LinearHead):
    """Least squares to one-hot targets on L2-normalised features, with an offset and a penalty found by few folds.

    `LinearHead` describes the options. `r2d2` is its relative that is meta-trained.
    """

    PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
    USUAL, TEMPERATURE = 2, 32.0

    def solve(
        self, kernel: Tensor, targets: Tensor, weights: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In closed form."""
        smooth = smoother(kernel, weights, penalty)
        return smooth.centre, *smooth(targets)
