"""Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ._registry import register
from .bases.class_means import class_means
from .bases.distances import squared_distances
from .bases.metric import Metric

DISTANCES = ("euclidean", "cosine")


@register("protonet")
class ProtoNet(Metric):
    """A class is the mean of its support embeddings, and a query goes to the nearest mean. There is no inner loop.

    The scores are minus the squared Euclidean distances (equations 1 and 2), or `scale` times the cosine similarities.
    The state of a task is `{"prototypes" [classes, D], "statistics"}`. `Metric` describes the other options.

    Args:
        distance: `"euclidean"` or `"cosine"`.
        scale: factor of the cosine similarities, which lie between -1 and 1.
    """

    def __init__(self, model: nn.Module, *, distance: str = "euclidean", scale: float = 10.0, **options: Any) -> None:
        self.distance, self.scale = distance, scale
        super().__init__(model, **options)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self.distance not in DISTANCES:
            raise InputError(f"ProtoNet has no distance '{self.distance}'; it is one of {', '.join(DISTANCES)}.")

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"prototypes", "statistics"}`."""
        embedded, statistics = self.embed_support(x)
        return {"prototypes": class_means(embedded, y), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        return self._scores(state["prototypes"], self.embed_query(x, state["statistics"]))

    def scores_of(self, support: Tensor, y: Tensor, query: Tensor) -> Tensor:
        """Returns the scores that `Metric.scores_of` describes."""
        return self._scores(class_means(support, y), query)

    def _scores(self, prototypes: Tensor, embedded: Tensor) -> Tensor:
        if self.distance == "cosine":
            return self.scale * F.normalize(embedded, dim=-1) @ F.normalize(prototypes, dim=-1).mT
        return -squared_distances(embedded, prototypes)
