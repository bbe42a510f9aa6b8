"""Santoro et al., "Meta-Learning with Memory-Augmented Neural Networks", ICML 2016.

Adam Santoro, Sergey Bartunov, Matthew Botvinick, Daan Wierstra and Timothy Lillicrap.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...episodes import Episode, presentations
from ...errors import InputError
from ...modules.heads import linear_head
from ...modules.place import place_of
from ...ranges import check_counts
from .._registry import register
from ..bases.metric import Metric
from ..bases.task_classes import class_count
from .controller import Controller

PROTOCOLS = ("episode", "sequence")
MULTIPLIER, PRIME = 40503, 65521  # of the checksums that examples are shuffled by


@register("mann")
class MANN(Metric):
    """An LSTM writes every example and its label to an external memory, and reads there what it has seen of a class.

    Examples are presented one at a time, each with the label of the one before (section 3), to an LSTM with read heads
    that address a memory by cosine similarity (equations 2 to 4). It is written to by least recently used access
    (equations 5 to 8), then read, at every step. Where the paper leaves room or is left:

    - Each of the n read heads has a write head. Head h writes to the rows that it read at the step before, and to the
      h-th of the n least used rows; w_lu marks as many rows as there are reads, and all of them are zeroed first.
    - What is written is a linear map of the controller's output and the late label. The paper writes the key k_t, which
      would be the first thing that the same key then finds.
    - The cosines have a learned factor for each head, as in neural Turing machines.
    - The embedding is the model's, and trained with the rest. `Controller` says what the initial weights are.

    As an episode algorithm it is presented the support set in the order of `shuffled`, whatever order that is given in.
    Every query is then presented on its own, with the last support label, to the state
    `{"network": {...}, "label" [1, classes], "statistics"}`. `sequence` is the paper's own protocol. A task with fewer
    classes than `ways` uses the first scores. `Metric` describes the other options.

    Args:
        rows, width: size of the memory; every support example needs `reads` rows.
        reads: read heads.
        hidden: units of the LSTM.
        decay: gamma, by which the usage of a row decays at every step.
        protocol: what meta-training minimises. `"episode"`: the loss of the queries. `"sequence"`: the mean loss over
            all presentations of support and query examples, shuffled into one sequence.
        ways: classes that it can tell apart; by default as many as the model's head.
        embedding: values of the embedding, where the model has no linear head to tell it.

    Raises:
        InputError: an option out of range, or a model without a linear head and no `ways` and `embedding`.
    """

    fixed = Metric.fixed | {"width", "reads", "hidden", "ways", "embedding"}

    def __init__(
        self,
        model: nn.Module,
        *,
        rows: int = 128,
        width: int = 40,
        reads: int = 4,
        hidden: int = 200,
        decay: float = 0.95,
        protocol: str = "episode",
        ways: int | None = None,
        embedding: int | None = None,
        **options: Any,
    ) -> None:
        self.rows, self.decay, self.protocol, self._reads = rows, decay, protocol, reads
        check_counts(width=width, reads=reads, hidden=hidden)
        if hidden < 2:
            raise InputError(f"hidden is {hidden}; the controller has two halves, so it must be at least 2.")
        head = linear_head(model, options.get("head"))
        super().__init__(model, **options)
        if head is not None:
            ways, embedding = ways or head.out_features, embedding or head.in_features
        if ways is None or embedding is None:
            raise InputError(
                f"{type(model).__name__} has no linear head; say how many classes there are and how wide its "
                "embedding is, as ways=5, embedding=64."
            )
        check_counts(ways=ways, embedding=embedding)
        self.controller = Controller(embedding, ways, width, reads, hidden, place_of(model))

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_counts(rows=self.rows)
        if self.rows < self._reads:
            raise InputError(
                f"MANN's memory has {self.rows} rows, and {self._reads} reads write to as many at every step; take "
                f"rows={self._reads} or more."
            )
        if not 0 <= self.decay <= 1:
            raise InputError(f"MANN's decay is {self.decay}; it must lie between 0 and 1.")
        if self.protocol not in PROTOCOLS:
            raise InputError(f"MANN has no protocol '{self.protocol}'; it is one of {', '.join(PROTOCOLS)}.")

    @property
    def max_ways(self) -> int:
        """The classes that it can tell apart."""
        return self.controller.ways

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"network", "label", "statistics"}`.

        Raises:
            InputError: a memory smaller than the support set, more classes than scores.
        """
        needed = len(y) * self._reads
        if needed > self.rows:
            raise InputError(
                f"MANN's memory has {self.rows} rows, and {len(y)} support examples with {self._reads} reads write to "
                f"{needed}; take rows={needed} or more."
            )
        embedded, statistics = self.embed_support(x)
        order = shuffled(x)
        state, _ = self._present(embedded[order], y[order])
        return {**state, "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`; queries do not see each other, but for batch norm."""
        embedded = self.embed_query(x, state["statistics"])
        _, scores = self._step(state["network"], embedded, state["label"])
        return scores

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """By the protocol; the scores are those of the queries, `[Q, classes]`."""
        if self.protocol == "episode":
            return super().loss(episode)
        x = torch.cat([episode.support_x, episode.query_x])
        y = torch.cat([episode.support_y, episode.query_y])
        order = shuffled(x)
        embedded, _ = self.embed_support(x)
        scores = self._present(embedded[order], y[order])[1][order.argsort()]
        return self.criterion(scores, y), scores[len(episode.support_y) :]

    def sequence(self, x: Tensor, y: Tensor) -> Tensor:
        """The paper's protocol: examples `[L, ...]` and labels `[L]` in order -> the scores `[L, classes]` of each.

        Those of an example depend on its own embedding, and on the examples before it with their labels. Rows of the
        memory are used again where it is smaller than the sequence.

        Raises:
            InputError: more classes than scores.
        """
        embedded, _ = self.embed_support(x)
        return self._present(embedded, y)[1]

    def _present(self, embedded: Tensor, y: Tensor) -> tuple[dict[str, Any], Tensor]:
        """Embeddings `[L, D]` one after another, labels `[L]` one step late -> the state, and scores `[L, classes]`."""
        classes = class_count(y)
        if classes > self.max_ways:
            raise InputError(
                f"The task has {classes} classes, and MANN has {self.max_ways} scores; make it with ways={classes} or "
                f"more, or give at most {self.max_ways} classes."
            )
        labels = F.one_hot(y, classes).to(embedded.dtype)
        network, label, scores = self.controller.begin(self.rows), torch.zeros_like(labels[:1]), []
        for one, after in zip(embedded.split(1), labels.split(1), strict=True):
            network, score = self._step(network, one, label)
            scores.append(score)
            label = after
        return {"network": network, "label": label}, torch.cat(scores)

    def _step(self, network: dict[str, Tensor], embedded: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        if embedded.shape[1] != self.controller.inputs:
            raise InputError(
                f"The embedding has {embedded.shape[1]} values, and MANN was made for {self.controller.inputs}; make "
                f"it with embedding={embedded.shape[1]}."
            )
        network, scores = self.controller(network, embedded, label, self.decay)
        return network, scores[:, : label.shape[1]]


def shuffled(x: Tensor) -> Tensor:
    """An order of the examples `[N, ...]` that says nothing of their classes, `[N]`: that of a checksum of each.

    It takes no random number, is the same on every device, and does not depend on the order that they are given in.
    """
    values = (x.reshape(len(x), -1).float() * 1024).round().long()
    places = torch.arange(1, values.shape[1] + 1, device=x.device)
    checksums = (values * places).sum(1) * MULTIPLIER % PRIME
    return torch.sort(checksums, stable=True).indices


def accuracy_by_presentation(scores: Tensor, y: Tensor) -> Tensor:
    """Scores `[..., L, classes]` of sequences with labels `[..., L]` -> accuracy at the 1st, 2nd, ... presentation."""
    right, times = (scores.argmax(-1) == y).double(), presentations(y)
    return torch.stack([right[times == time].mean() for time in range(1, int(times.max()) + 1)])
