"""Multinomial logistic regression on frozen features: Tian, Wang, Krishnan, Tenenbaum and Isola, "Rethinking Few-shot
Image Classification: a Good Embedding Is All You Need?", ECCV 2020. The solver uses the bound of Boehning, "Multinomial
Logistic Regression Algorithm", 1992."""

from __future__ import annotations

from torch import Tensor

from ._registry import register
from .bases.linear_head import LinearHead, smoother

ITERATIONS = 60


@register("logistic")
class Logistic(LinearHead):
    """Logistic regression on L2-normalised features, with a penalty that cross-validation chooses.

    It minimises sum_i w_i cross-entropy_i + penalty / 2 |weights|^2 with an unpenalised offset, as scikit-learn does
    with `C = 1 / penalty`. The curvature of the cross-entropy is at most 1/2 in any direction. Each step can therefore
    be a ridge regression to the targets f + 2 (t - softmax f), with the same matrix every time, and lowers the loss.
    `LinearHead` describes the options.
    """

    PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
    USUAL, TEMPERATURE = 2, 32.0

    def solve(
        self, kernel: Tensor, targets: Tensor, weights: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Fits by `ITERATIONS` steps that each minimise the bound; `LinearHead.solve` describes the shapes."""
        smooth = smoother(kernel, weights, 2 * penalty)
        fitted = targets.new_zeros(*weights.shape, targets.shape[-1])
        for _ in range(ITERATIONS):
            coefficients, offset, fitted = smooth(fitted + 2 * (targets - fitted.softmax(-1)))
        return smooth.centre, coefficients, offset, fitted
