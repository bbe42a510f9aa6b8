"""The base of ridge and logistic regression on features; cross-validation on the support set chooses the penalty.

A task has far fewer examples than features, so all computations use the S x S matrix of the examples' inner products.
The classifier is a weighted sum of the support features, and a held-out example has the weight 0.
"""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...ranges import check_rate
from .feature_head import FeatureHead
from .held_out import choose, class_balance, fold_weights, measurable
from .task_classes import class_count, members

TOGETHER = 300  # largest number of examples for which all folds and penalties, 25 S x S matrices, are solved at once


class Smoother(NamedTuple):
    """Weighted ridge regression on given features with an unpenalised offset; its solution is linear in the targets."""

    kernel: Tensor  # [..., S, S], centred
    centre: Tensor  # [..., S], weights of the examples in the mean that the features are centred on
    inverse: Tensor  # [..., S, S]

    def __call__(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets `[..., S, classes]` -> the examples' coefficients, offset `[..., 1, classes]` and fitted values."""
        offset = self.centre[..., None, :] @ targets
        coefficients = self.inverse @ (targets - offset)
        return coefficients, offset, self.kernel @ coefficients + offset


def smoother(kernel: Tensor, weights: Tensor, penalty: Tensor) -> Smoother:
    """Returns the minimiser of sum_i w_i |f(x_i) - t_i|^2 + penalty |f|^2, for a linear f with an unpenalised offset.

    Args:
        kernel: inner products of the features `[S, S]`.
        weights: w `[..., S]`; 0 leaves an example out.
        penalty: factor of |f|^2, `[...]`.
    """
    centre = weights / weights.sum(-1, keepdim=True)
    row = centre[..., None, :] @ kernel
    kernel = kernel - row - row.mT + row @ centre[..., :, None]
    root = weights.sqrt()
    inside = root[..., :, None] * kernel * root[..., None, :]
    inside = inside + penalty[..., None, None] * torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    # The penalty makes the matrix positive definite, so it needs no check; that of `inv` would wait for the GPU.
    inverse = root[..., :, None] * torch.linalg.inv_ex(inside).inverse * root[..., None, :]
    return Smoother(kernel, centre, inverse)


class LinearHead(FeatureHead):
    """A subclass fits by `solve`. `FeatureHead` describes the other options.

    Cross-validation chooses the penalty: the strongest one whose held-out loss is within one standard error of the
    least. Each fold leaves out the same number of examples of every class. The folds also choose the temperature,
    which turns scores into logits. All classes have the same weight, whatever their number of examples. With one
    example in each class nothing can be held out, and `PENALTIES[USUAL]` and `TEMPERATURE` are used. The fitted state
    is `{"weights" [D, classes], "bias" [classes], "penalty", "temperature"}`; weights and bias include the temperature.

    Args:
        penalty: a fixed penalty; it replaces the search.
    """

    PENALTIES: tuple[float, ...]  # the penalties to try, from weak to strong
    USUAL: int  # index of the penalty to use if no example can be held out
    TEMPERATURE: float  # the temperature for that case

    def __init__(self, model: nn.Module, *, penalty: float | None = None, **options: Any) -> None:
        self.penalty = penalty
        super().__init__(model, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self.penalty is not None:
            check_rate(penalty=self.penalty)

    @abc.abstractmethod
    def solve(
        self, kernel: Tensor, targets: Tensor, weights: Tensor, penalty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Fits the classifier for every set of weights and penalty.

        Args:
            kernel: inner products of the support features `[S, S]`.
            targets: one-hot `[S, classes]`.
            weights: weights of the examples `[..., S]`.
            penalty: `[...]`.

        Returns:
            The examples' weights in the centre of the features `[..., S]`, coefficients `[..., S, classes]`, offsets
            `[..., 1, classes]` and fitted values `[..., S, classes]`.
        """

    def fit(self, features: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Support embeddings `[S, D]`, `[S]` -> `{"weights", "bias", "penalty", "temperature"}`."""
        penalty, temperature, _ = self._search(features, y)
        targets = members(y).to(features.dtype)
        weights = class_balance(y, features.new_ones(len(y)))
        centre, coefficients, offset, _ = self.solve(features @ features.mT, targets, weights, penalty)
        mean = centre @ features
        slopes = (features - mean).mT @ coefficients
        bias = offset.squeeze(-2) - mean @ slopes
        return {
            "weights": temperature * slopes,
            "bias": temperature * bias,
            "penalty": penalty,
            "temperature": temperature,
        }

    def score(self, fitted: dict[str, Tensor], features: Tensor) -> Tensor:
        """Query embeddings `[Q, D]` -> logits `[Q, classes]`."""
        return features @ fitted["weights"] + fitted["bias"]

    def held_out_features(self, features: Tensor, y: Tensor) -> Tensor:
        """Returns the scores that `FeatureHead` describes, from the folds that chose the penalty."""
        return self._search(features, y)[2]

    def _search(self, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the penalty, the temperature and held-out logits `[S, classes]`, 0 for examples never held out."""
        classes = class_count(y)
        tried = (self.penalty,) if self.penalty is not None else self.PENALTIES
        penalties = torch.tensor(tried, dtype=features.dtype, device=features.device)
        kept = fold_weights(y, classes).to(features.dtype)  # [folds, S]
        weights = class_balance(y, kept).expand(len(tried), *kept.shape)
        with torch.no_grad():  # the choice of the penalty has no derivative
            kernel, targets = features @ features.mT, members(y).to(features.dtype)
            if len(y) <= TOGETHER:
                fitted = self.solve(kernel, targets, weights, penalties[:, None].expand(-1, len(kept)))[3]
            else:
                rows = [[self.solve(kernel, targets, w, p)[3] for w in weights[0]] for p in penalties]
                fitted = torch.stack([torch.stack(row) for row in rows])
            held = ((1 - kept)[..., None] * fitted).sum(1)  # each example is scored by the fold that holds it out
            usual = min(self.USUAL, len(tried) - 1)
            chosen = choose(held, y, usual, self.TEMPERATURE)
            penalty = penalties.gather(0, chosen.place[None]).squeeze(0)
            logits = chosen.temperature * held.index_select(0, chosen.place[None]).squeeze(0)
            return penalty, chosen.temperature, logits * measurable(y)[:, None]
