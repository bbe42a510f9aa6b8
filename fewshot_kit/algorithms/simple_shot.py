"""Wang, Chao, Weinberger and van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot
Learning", 2019."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ranges import check_rate
from ._registry import register
from .bases.class_means import class_means
from .bases.feature_head import FeatureHead


@register("simple_shot")
class SimpleShot(FeatureHead):
    """The nearest class mean of features that are centred on the base classes' mean and L2-normalised (CL2N).

    If no base mean is known, the features are only L2-normalised (L2N). Centring on the support set's own mean, as
    `nearest_centroid` does, would cost accuracy with few classes. The scores are `scale` times the cosine similarities
    with the class means, which rank the classes as the distances to means of length 1 do. `FeatureHead` describes the
    other options.

    Args:
        scale: factor of the cosine similarities, which lie between -1 and 1; it changes no decision.
    """

    def __init__(self, model: nn.Module, *, scale: float = 20.0, **options: Any) -> None:
        self.scale = scale
        super().__init__(model, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_rate(scale=self.scale)

    def fit(self, features: Tensor, y: Tensor) -> Tensor:
        """Support embeddings `[S, D]`, `[S]` -> class means of length 1 `[classes, D]`."""
        return F.normalize(class_means(features, y), dim=-1)

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Query embeddings `[Q, D]` -> scores `[Q, classes]`."""
        return self.scale * torch.matmul(features, fitted.mT)

    def scores_of(self, support: Tensor, y: Tensor, query: Tensor) -> Tensor:
        """Returns the scores that `Metric.scores_of` describes."""
        return self.score(self.fit(self._features(support), y), self._features(query))
