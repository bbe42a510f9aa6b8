"""Vinyals, Blundell, Lillicrap, Kavukcuoglu and Wierstra, "Matching Networks for One Shot Learning", NeurIPS 2016."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..modules.heads import linear_head
from ..modules.lstm import lstm_cell
from ..modules.place import place_of
from ..ranges import check_counts, check_rate
from ._registry import register
from .bases.metric import Metric
from .bases.task_classes import members


@register("matching_net")
class MatchingNet(Metric):
    """A query's label is the mean of the support labels, weighted by attention over cosine similarities (equation 1).

    The scores are the logarithms of these probabilities. The state of a task is `{"embedded" [S, D], "members"
    [S, classes], "statistics"}`. `Metric` describes the other options.

    Args:
        full_context: embed every support example by a bidirectional LSTM over the whole support set, and every query by
            an LSTM that attends to the support set (section 2.1.2).
        reads: number of steps of the query's LSTM.
        scale: factor of the similarities before the softmax; 1 in the paper.
        width: D; needed with `full_context` if the model has no linear head that tells it.
    """

    fixed = Metric.fixed | {"full_context", "width"}

    def __init__(
        self,
        model: nn.Module,
        *,
        full_context: bool = False,
        reads: int = 3,
        scale: float = 10.0,
        width: int | None = None,
        **options: Any,
    ) -> None:
        self.reads, self.scale = reads, scale
        head = linear_head(model, options.get("head"))
        width = width or (head.in_features if head is not None else None)
        super().__init__(model, **options)
        self.forwards = self.backwards = self.reader = None
        if full_context:
            if width is None:
                raise InputError(
                    f"{type(model).__name__} has no linear head; say how wide its embedding is, as width=64."
                )
            place = place_of(model)
            self.forwards, self.backwards = (nn.LSTMCell(width, width, **place) for _ in range(2))
            self.reader = nn.LSTMCell(2 * width, width, **place)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_counts(reads=self.reads)
        check_rate(scale=self.scale)

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"embedded", "members", "statistics"}`."""
        embedded, statistics = self.embed_support(x)
        if self.forwards is not None and self.backwards is not None:
            ahead, behind = _states(self.forwards, embedded), _states(self.backwards, embedded.flip(0)).flip(0)
            embedded = embedded + ahead + behind
        return {"embedded": embedded, "members": members(y).to(embedded.dtype), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> log-probabilities `[Q, classes]`."""
        query, support = self.embed_query(x, state["statistics"]), state["embedded"]
        if self.reader is not None:
            query = _read(self.reader, query, support, self.reads)
        similarity = self.scale * F.normalize(query) @ F.normalize(support).T
        # The probabilities are summed as logarithms, so that none of them underflows to 0.
        logits = torch.log_softmax(similarity, 1)[:, :, None] + torch.log(state["members"])[None]
        return torch.logsumexp(logits, 1)


def _states(cell: nn.LSTMCell, sequence: Tensor) -> Tensor:
    """Sequence `[S, D]` -> the LSTM's hidden state after each of its elements `[S, D]`."""
    hidden = memory = torch.zeros_like(sequence[:1])
    states = []
    for item in sequence.split(1):
        hidden, memory = _step(cell, item, hidden, memory)
        states.append(hidden)
    return torch.cat(states)


def _step(cell: nn.LSTMCell, x: Tensor, hidden: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    gates = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(hidden, cell.weight_hh, cell.bias_hh)
    return lstm_cell(gates, memory)


def _read(cell: nn.LSTMCell, query: Tensor, support: Tensor, reads: int) -> Tensor:
    """Returns the query's hidden state after `reads` steps; each step attends to the support set (equations 2 to 5)."""
    hidden, memory, read = query, torch.zeros_like(query), torch.zeros_like(query)
    for _ in range(reads):
        hidden, memory = _step(cell, torch.cat([query, read], 1), hidden, memory)
        hidden = hidden + query
        read = torch.softmax(hidden @ support.T, 1) @ support
    return hidden
