"""Ridge regression as a classifier on frozen features: Bertinetto, Henriques, Torr and Vedaldi, "Meta-learning with
Differentiable Closed-form Solvers", ICLR 2019. Cross-validation chooses the penalty, which the paper learns across
tasks."""

from __future__ import annotations

from torch import Tensor

from ._registry import register
from .bases.linear_head import LinearHead, smoother


@register("ridge")
class Ridge(LinearHead):
    """Ridge regression to one-hot targets on L2-normalised features, with a penalty that cross-validation chooses.

    `LinearHead` describes the options. `r2d2` is the meta-trained version.
    """

    PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
    USUAL, TEMPERATURE = 2, 32.0

    def solve(
        self, kernel: Tensor, targets: Tensor, weights: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Fits in closed form; `LinearHead.solve` describes the shapes."""
        smooth = smoother(kernel, weights, penalty)
        return smooth.centre, *smooth(targets)
