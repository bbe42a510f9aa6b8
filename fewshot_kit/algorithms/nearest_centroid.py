"""Wang, Chao, Weinberger and van der Maaten, "SimpleShot: Revisiting Nearest-Neighbor Classification for Few-Shot
Learning", 2019."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..ranges import check_rate
from ._registry import register
from .bases.class_means import class_means
from .bases.distances import squared_distances
from .bases.metric import Metric


@register("nearest_centroid")
class NearestCentroid(Metric):
    """The nearest class mean of the model's features, centred and L2-normalised (CL2N): a baseline without learning.

    `adapt(resnet18, (x, y), algorithm="nearest_centroid")` uses the features of a trained model. The features are
    centred on the mean of the support set; the paper uses the mean of the base classes, which is not known for every
    model. The scores are -scale times the squared distances. With meta-training it becomes a prototypical network on
    such features. The state of a task is `{"mean" [D], "centroids" [classes, D], "statistics"}`. `Metric` describes
    the other options.

    Args:
        scale: factor of the squared distances, which lie between 0 and 4; it changes no decision.
    """

    def __init__(self, model: nn.Module, *, scale: float = 10.0, **options: Any) -> None:
        self.scale = scale
        super().__init__(model, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_rate(scale=self.scale)

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"mean", "centroids", "statistics"}`."""
        embedded, statistics = self.embed_support(x)
        mean = embedded.mean(0)
        return {"mean": mean, "centroids": class_means(_units(embedded, mean), y), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        embedded = _units(self.embed_query(x, state["statistics"]), state["mean"])
        return -self.scale * squared_distances(embedded, state["centroids"])

    def scores_of(self, support: Tensor, y: Tensor, query: Tensor) -> Tensor:
        """Returns the scores that `Metric.scores_of` describes."""
        mean = support.mean(-2, keepdim=True)
        return -self.scale * squared_distances(_units(query, mean), class_means(_units(support, mean), y))


def _units(embedded: Tensor, mean: Tensor) -> Tensor:
    return F.normalize(embedded - mean, dim=-1)
