"""The base of the transductive heads, which look at all queries of a task together."""

from __future__ import annotations

from torch import Tensor

from .feature_head import FeatureHead
from .task_classes import members


class TransductiveHead(FeatureHead):
    """A subclass scores all queries of a task together in `score`; `fit` only stores the support set."""

    transductive = True

    def fit(self, features: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Support embeddings `[S, D]`, `[S]` -> `{"features" [S, D], "members" [S, classes]}`."""
        return {"features": features, "members": members(y).to(features.dtype)}


def weighted_means(weights: Tensor, features: Tensor) -> Tensor:
    """Weights `[N, classes]`, features `[N, D]` -> weighted mean features of every class `[classes, D]`."""
    return weights.T @ features / weights.sum(0)[:, None]
