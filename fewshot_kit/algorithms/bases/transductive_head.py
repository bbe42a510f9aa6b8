"""What the transductive heads share: they look at all queries of a task together."""

from __future__ import annotations

from torch import Tensor

from .feature_head import FeatureHead
from .task_classes import members


class TransductiveHead(FeatureHead):
    """A subclass scores all queries of a task together (`score`), beside the support set that `fit` keeps as it is."""

    transductive = True

    def fit(self, features: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Support embeddings `[S, D]`, `[S]` -> `{"features" [S, D], "members" [S, classes]}`."""
        return {"features": features, "members": members(y).to(features.dtype)}


def weighted_means(weights: Tensor, features: Tensor) -> Tensor:
    """Weights `[N, classes]`, features `[N, D]` -> their mean for every class `[classes, D]`."""
    return weights.T @ features / weights.sum(0)[:, None]


def squared_distances(features: Tensor, means: Tensor) -> Tensor:
    """Squared Euclidean distances of `[N, D]` from `[classes, D]`: `[N, classes]`."""
    return features.square().sum(-1)[:, None] - 2 * features @ means.T + means.square().sum(-1)
