"""Chen, Liu, Kira, Wang and Huang, "A Closer Look at Few-shot Classification", ICLR 2019 (Baseline++)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..ranges import check_counts, check_rate
from ._registry import register
from .bases.class_means import class_means
from .bases.feature_head import FeatureHead
from .bases.inner_loop import descended, sgd
from .bases.task_classes import members


@register("cosine")
class Cosine(FeatureHead):
    """The cosine classifier of Baseline++, which trains one weight vector for each class on the support set.

    The scores are `scale` times the cosine similarities of an embedding with the weight vectors. The weight vectors
    start from the class means (in the paper at random), and take `steps` of gradient descent on the cross-entropy of
    the support set. `FeatureHead` describes the other options.

    Args:
        scale: factor of the cosine similarities, which lie between -1 and 1.
        lr: learning rate of the descent.
        steps: number of steps.
    """

    lr: float
    steps: int

    def __init__(
        self, model: nn.Module, *, scale: float = 10.0, lr: float = 0.5, steps: int = 20, **options: Any
    ) -> None:
        self.scale, self.lr, self.steps = scale, lr, steps
        super().__init__(model, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_rate(scale=self.scale, lr=self.lr)
        check_counts(steps=self.steps)

    def fit(self, features: Tensor, y: Tensor) -> Tensor:
        """Support embeddings `[S, D]`, `[S]` -> weight vectors `[classes, D]`."""
        constants = (features, members(y).to(features.dtype))
        return descended(self._loss, class_means(features, y), constants, sgd(self.lr), self.steps)

    def score(self, fitted: Tensor, features: Tensor) -> Tensor:
        """Query embeddings `[Q, D]` -> scores `[Q, classes]`."""
        return self.scale * features @ F.normalize(fitted, dim=-1).T

    def _loss(self, weights: Tensor, features: Tensor, within: Tensor) -> Tensor:
        return -(within * self.score(weights, features).log_softmax(-1)).sum(-1).mean()
