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
    """Returns the weights `[D, classes]` that minimise |x weights - targets|^2 + penalty |weights|^2.

    Woodbury's identity (equation 6) replaces a D x D system by an S x S one.

    Args:
        x: `[S, D]`.
        targets: `[S, classes]`.
    """
    if x.dtype in (torch.float16, torch.bfloat16):  # torch solves in neither
        return ridge(x.float(), targets.float(), penalty.float()).to(x.dtype)
    kernel = x @ x.T + penalty * torch.eye(len(x), dtype=x.dtype, device=x.device)
    # The matrix is never singular, so it needs no check; that of `solve` would wait for the GPU.
    return x.T @ torch.linalg.solve_ex(kernel, targets).result


@register("r2d2")
class R2D2(Metric):
    """The head is ridge regression on the embeddings, solved in closed form and differentiated through (R2-D2).

    It is like ANIL with a closed-form solution instead of gradient steps. The state of a task is
    `{"weights" [D, classes], "statistics"}`. The penalty and a scale of the scores are learned across tasks (equations
    4 to 6). The paper's common offset of all scores is left out, since it does not change a softmax. `Metric` describes
    the other options.

    Args:
        penalty: initial value of the ridge penalty, whose logarithm is learned.
    """

    fixed = Metric.fixed | {"penalty"}

    def __init__(self, model: nn.Module, *, penalty: float = 1.0, **options: Any) -> None:
        super().__init__(model, **options)
        check_rate(penalty=penalty)
        place = place_of(model)
        self.log_penalty = nn.Parameter(torch.tensor(math.log(penalty), **place))
        self.scale = nn.Parameter(torch.tensor(1.0, **place))

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"weights", "statistics"}`; it solves for S unknowns per class, not D."""
        embedded, statistics = self.embed_support(x)
        targets = members(y).to(embedded.dtype)
        return {"weights": ridge(embedded, targets, self.log_penalty.exp()), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        return self.scale * (self.embed_query(x, state["statistics"]) @ state["weights"])
