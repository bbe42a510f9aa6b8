"""Bertinetto, Henriques, Torr and Vedaldi, "Meta-learning with Differentiable Closed-form Solvers", ICLR 2019."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..modules.place import place_of
from ..ranges import check_rate
from ._registry import register
from .bases.metric import Metric
from .bases.task_classes import members


def ridge(x: Tensor, targets: Tensor, penalty: Tensor) -> Tensor:
    """The weights `[D, classes]` with the least |x weights - targets|^2 + penalty |weights|^2.

    By Woodbury's identity (equation 6), an S x S system in place of a D x D one.

    Args:
        x: `[S, D]`.
        targets: `[S, classes]`.
    """
    kernel = x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype, device=x.device)
    # Never singular: `solve` would wait for a GPU to make sure.
    return x.T @ torch.linalg.solve_ex(kernel, targets).result


@register("r2d2")
class R2D2(Metric):
    """Ridge regression on the embeddings is the head: solved in closed form, and differentiated through (R2-D2).

    ANIL with a head that is solved for instead of descended to. The state of a task is `{"weights" [D, classes],
    "statistics"}`; the penalty and a scale of the scores are learned across tasks (equations 4 to 6; the paper's common
    offset of all scores is left out, which no softmax sees). `Metric` describes the other options.

    Args:
        penalty: where the ridge penalty starts; it is learned as its logarithm.
    """

    fixed = Metric.fixed | {"penalty"}

    def __init__(self, model: nn.Module, *, penalty: float = 1.0, **options: Any) -> None:
        super().__init__(model, **options)
        check_rate(penalty=penalty)
        place = place_of(model)
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty), **place))
        self.scale = nn.Parameter(torch.tensor(1.0, **place))

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"weights", "statistics"}`: S unknowns a class, however large D is."""
        embedded, statistics = self.embed_support(x)
        targets = members(y).to(embedded.dtype)
        return {"weights": ridge(embedded, targets, self.log_penalty.exp()), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        return self.scale * (self.embed_query(x, state["statistics"]) @ state["weights"])
