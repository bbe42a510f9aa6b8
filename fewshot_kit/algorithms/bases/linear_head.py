"""What ridge and logistic regression share: a linear classifier on features, its strength found by few folds.

With far fewer examples than features everything is done with the S x S matrix of their inner products: the classifier
is a weighted sum of the support features, and a fold that is held out is a weight of 0.
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

TOGETHER = 300  # examples, up to which all folds and penalties are solved for at once: 25 matrices of S x S


class Smoother(NamedTuple):
    """Weighted ridge regression with a free offset on given features: linear in the targets."""

    kernel: Tensor  # [..., S, S], centred
    centre: Tensor  # [..., S], shares of the examples in the centre
    inverse: Tensor  # [..., S, S]

    def __call__(self, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Targets `[..., S, classes]` -> coefficients of the examples, offset `[..., 1, classes]`, fitted values."""
        offset = self.centre[..., None, :] @ targets
        coefficients = self.inverse @ (targets - offset)
        return coefficients, offset, self.kernel @ coefficients + offset


def smoother(kernel: Tensor, weights: Tensor, penalty: Tensor) -> Smoother:
    """The minimiser of sum_i w_i |f(x_i) - t_i|^2 + penalty |f|^2 for a linear f with an offset that costs nothing.

    Args:
        kernel: inner products of the features `[S, S]`.
        weights: w `[..., S]`; 0 leaves an example out.
        penalty: `[...]`.
    """
    centre = weights / weights.sum(-1, keepdim=True)
    row = centre[..., None, :] @ kernel
    kernel = kernel - row - row.mT + row @ centre[..., :, None]
    root = weights.sqrt()
    inside = root[..., :, None] * kernel * root[..., None, :]
    inside = inside + penalty[..., None, None] * torch.eye(kernel.shape[-1], dtype=kernel.dtype, device=kernel.device)
    # Positive definite by the penalty: the check of `inv` would wait for a GPU.
    inverse = root[..., :, None] * torch.linalg.inv_ex(inside).inverse * root[..., None, :]
    return Smoother(kernel, centre, inverse)


class LinearHead(FeatureHead):
    """A subclass fits by `solve`. `FeatureHead` describes the other options.

    The penalty is the strongest whose held-out loss is within one standard error of the least, by folds that leave out
    as many examples of every class; the scores are the logits that these folds call for. All classes weigh the same,
    however many examples they have. With one example a class nothing can be held out, and `usual` is taken. The state
    is `{"weights" [D, classes], "bias" [classes], "penalty", "temperature"}`, the first two with the temperature in
    them.

    Args:
        penalty: a penalty of one's own, in place of the search.
    """

    PENALTIES: tuple[float, ...]  # that are tried, from the weakest
    USUAL: int  # the one of them that is taken untried
    TEMPERATURE: float  # with it

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
        """Inner products `[S, S]`, one-hot targets `[S, classes]`, weights `[..., S]`, penalties `[...]` -> shares of
        the centre `[..., S]`, coefficients `[..., S, classes]`, offsets `[..., 1, classes]`, fitted values.
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
        """As `FeatureHead` has it, by the folds that found the penalty."""
        return self._search(features, y)[2]

    def _search(self, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The penalty, the temperature, and held-out logits `[S, classes]`, 0 where none can be held out."""
        classes = class_count(y)
        tried = (self.penalty,) if self.penalty is not None else self.PENALTIES
        penalties = torch.tensor(tried, dtype=features.dtype, device=features.device)
        kept = fold_weights(y, classes).to(features.dtype)  # [folds, S]
        weights = class_balance(y, kept).expand(len(tried), *kept.shape)
        with torch.no_grad():  # which penalty is best has no derivative
            kernel, targets = features @ features.mT, members(y).to(features.dtype)
            if len(y) <= TOGETHER:
                fitted = self.solve(kernel, targets, weights, penalties[:, None].expand(-1, len(kept)))[3]
            else:
                rows = [[self.solve(kernel, targets, w, p)[3] for w in weights[0]] for p in penalties]
                fitted = torch.stack([torch.stack(row) for row in rows])
            held = ((1 - kept)[..., None] * fitted).sum(1)  # each example by the fold that it was left out of
            usual = min(self.USUAL, len(tried) - 1)
            chosen = choose(held, y, usual, self.TEMPERATURE)
            penalty = penalties.gather(0, chosen.place[None]).squeeze(0)
            logits = chosen.temperature * held.index_select(0, chosen.place[None]).squeeze(0)
            return penalty, chosen.temperature, logits * measurable(y)[:, None]
