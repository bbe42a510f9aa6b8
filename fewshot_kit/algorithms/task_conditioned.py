"""Garnelo, Rosenbaum, Maddison, Ramalho, Saxton, Shanahan, Teh, Rezende and Eslami, "Conditional Neural Processes",
ICML 2018. The conditioning is FiLM: Perez, Strub, de Vries, Dumoulin and Courville, AAAI 2018."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..modules.heads import linear_head
from ..modules.place import place_of
from ..ranges import check_counts
from ._registry import register
from .bases.metric import Metric
from .bases.task_classes import members

EPSILON = 1e-6  # added to a variance, since that of one example is 0, where the root has no finite gradient
MOST = 2**28  # largest number of weights of the map to scales and shifts: 1 GB, and 2 GB more for Adam's moments


@register("task_conditioned")
class TaskConditioned(Metric):
    """Mean and standard deviation of the encoded support set condition the network by FiLM; there is no inner loop.

    A linear map turns a task embedding r into a scale and a shift, and features h become (1 + scale) h + shift.

    Classification: the model without its head encodes the examples. r_c holds the means and standard deviations of
    class c and of the whole support set. One small network, the same for all classes, scores a query's embedding after
    modulation by r_c, so that tasks may have any number of classes in any order.
    Regression: a small network encodes the pair of an example's embedding and its target. r holds the mean and standard
    deviation over the pairs. The model's own head reads a query's modulated embedding.

    The state of a task is `{"embedding" [classes, 4 D] or [1, 2 hidden], "statistics"}`. `Metric` describes the other
    options.

    Args:
        regression: whether the targets are floats; by default True if the model's linear head has a single output.
        hidden: width of the small networks.
        width: D; needed if the model has no linear head that tells it.

    Raises:
        InputError: as `Metric`; the model has no linear head that tells the width or does the regression; the embedding
            is too wide.
    """

    fixed = Metric.fixed | {"regression", "hidden", "width"}
    regression = True  # the class can do both; an instance is made for one kind of targets
    pairs: nn.Module | None  # encodes examples with their targets; None for classification

    def __init__(
        self,
        model: nn.Module,
        *,
        regression: bool | None = None,
        hidden: int = 64,
        width: int | None = None,
        **options: Any,
    ) -> None:
        head = linear_head(model, options.get("head"))
        super().__init__(model, **options)
        check_counts(hidden=hidden)
        width = width or (head.in_features if head is not None else None)
        if width is None:
            raise InputError(f"{type(model).__name__} has no linear head; say how wide its embedding is, as width=64.")
        if regression is None:
            regression = head is not None and head.out_features == 1
        weights = 2 * width * (2 * hidden if regression else 4 * width)
        if weights > MOST:
            raise InputError(
                f"{type(model).__name__}'s embedding has {width:,} features, whose modulation by a task would take "
                f"{weights:,} weights; take a model that ends in fewer, as conv4 has 64."
            )
        self.regression = regression
        place = place_of(model)
        if not regression:
            self.pairs, self.readout = None, _network(width, hidden, 1, place)
        elif head is not None:
            self.pairs, self.readout = _network(width + head.out_features, hidden, hidden, place), head
        else:
            raise InputError(f"{type(model).__name__} has no linear head to regress by; end it with an nn.Linear.")
        self.film = nn.Linear(2 * hidden if regression else 4 * width, 2 * width, **place)

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, class indices `[S]` or float targets `[S]` or `[S, values]` -> the task's state.

        Raises:
            InputError: the targets are of the other kind, or their number of values is not that of the head's outputs.
        """
        self._check_targets(y)
        codes, statistics = self.embed_support(x)
        if self.pairs is not None:
            codes = self.pairs(torch.cat([codes, y.reshape(len(y), -1)], 1))
        whole = mean_and_deviation(codes, torch.ones_like(codes[:, :1]))
        if self.pairs is not None:
            return {"embedding": whole, "statistics": statistics}
        classes = mean_and_deviation(codes, members(y).to(codes.dtype))
        return {"embedding": torch.cat([classes, whole.expand_as(classes)], 1), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`, or regression outputs `[Q, values]`."""
        scale, shift = self.film(state["embedding"]).chunk(2, 1)
        features = (1 + scale) * self.embed_query(x, state["statistics"])[:, None] + shift  # [Q, classes or 1, D]
        return self.readout(features).squeeze(2 if self.pairs is None else 1)

    def _check_targets(self, y: Tensor) -> None:
        if self.pairs is None and y.is_floating_point():
            raise InputError(
                "The targets are floats and this TaskConditioned tells classes apart; give class indices, or make it "
                "with regression=True."
            )
        if self.pairs is not None and not y.is_floating_point():
            raise InputError(
                "The targets are class indices and this TaskConditioned regresses; give float targets, or make it with "
                "regression=False."
            )
        if isinstance(self.readout, nn.Linear) and y[0].numel() != self.readout.out_features:
            raise InputError(
                f"A target has {y[0].numel()} values and the model's head gives {self.readout.out_features}; make the "
                "head as wide as the targets."
            )


def mean_and_deviation(codes: Tensor, within: Tensor) -> Tensor:
    """Codes `[S, D]`, one-hot sets `[S, sets]` -> mean and standard deviation of each set `[sets, 2 D]`."""
    counts = within.sum(0)[:, None]
    mean = within.T @ codes / counts
    variance = within.T @ (codes - within @ mean).square() / counts
    return torch.cat([mean, (variance + EPSILON).sqrt()], 1)


def _network(inputs: int, hidden: int, outputs: int, place: dict[str, Any]) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden, **place), nn.ReLU(), nn.Linear(hidden, outputs, **place))
