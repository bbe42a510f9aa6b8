"""Chen, Liu, Xu, Darrell and Wang, "Meta-Baseline: Exploring Simple Meta-Learning for Few-Shot Learning", ICCV 2021."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..modules.batch_norm import usual_policy
from ..modules.place import place_of
from ..ranges import check_rate
from ._registry import register
from .bases.class_means import class_means
from .bases.metric import Metric


@register("meta_baseline")
class MetaBaseline(Metric):
    """The nearest class mean by cosine similarity, times a learned scale, trained on episodes (equation 2).

    It starts from a network that was trained as a classifier of the training classes, as `baseline` does; give it by
    `meta_train(init=...)` or `--init`. The state of a task is `{"means" [classes, D], "statistics"}`, with means of
    length 1. `Metric` describes the other options.

    Args:
        scale: initial value of the factor of the cosine similarities, which is learned.
        batch_norm: as in `Metric`. By default, batch norm uses the stored statistics if training has moved them, and
            else those of the support set.
    """

    fixed = Metric.fixed | {"scale"}
    moves = False  # the statistics of the classifier's training are better than those of episodes

    def __init__(self, model: nn.Module, *, scale: float = 10.0, batch_norm: str | None = None, **options: Any) -> None:
        check_rate(scale=scale)
        super().__init__(model, batch_norm=batch_norm or usual_policy(model), **options)
        self.factor = nn.Parameter(torch.tensor(float(scale), **place_of(self.model)))

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"means", "statistics"}`."""
        embedded, statistics = self.embed_support(x)
        return {"means": F.normalize(class_means(embedded, y), dim=-1), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        embedded = F.normalize(self.embed_query(x, state["statistics"]), dim=-1)
        return self.factor * embedded @ state["means"].T

    def figures(self) -> dict[str, float]:
        """Returns the learned factor of the cosine similarities."""
        return {"factor": float(self.factor.detach())}
