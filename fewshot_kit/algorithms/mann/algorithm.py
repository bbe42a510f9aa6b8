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
MULTIPLIER, PRIME = 40503, 65521  # constants of the checksums that decide the order of the examples


@register("mann")
class MANN(Metric):
    """An LSTM writes every example and its label to an external memory, and reads what it has seen of a class there.

    The LSTM sees one example at a time, each with the label of the example before (section 3). At every step it first
    writes to the least recently used rows of the memory (equations 5 to 8). Its read heads then read rows by cosine
    similarity (equations 2 to 4). The details that the paper leaves open, and the differences from it:

    - Each of the n read heads has a write head. Head h writes to the rows that it read at the step before, and to the
      h-th of the n least used rows. w_lu marks these n rows, and all of them are set to 0 first.
    - Each head writes a linear map of the controller's output and the late label. The paper writes the key k_t itself;
      the same key would then find that row first.
    - The cosine similarities have a learned factor for each head, as in neural Turing machines.
    - The model makes the embedding and is trained with the rest. `Controller` describes the initial weights.

    In an episode, the support set is presented in the order of `shuffled`, which does not depend on the given order.
    Every query is then presented on its own, with the last support label, to the state
    `{"network": {...}, "label" [1, classes], "statistics"}`. `sequence` is the paper's own protocol. A task with fewer
    classes than `ways` uses the first scores. `Metric` describes the other options.

    Args:
        rows, width: size of the memory; every support example needs `reads` rows.
        reads: number of read heads.
        hidden: number of units of the LSTM.
        decay: gamma, the factor by which the usage of a row decays at every step.
        protocol: what meta-training minimises. `"episode"`: the loss of the queries. `"sequence"`: the mean loss over
            all presentations of support and query examples, shuffled into one sequence.
        ways: number of classes that it can tell apart; by default the number of outputs of the model's head.
        embedding: number of features of the embedding; needed if the model has no linear head that tells it.

    Raises:
        InputError: an option is out of range; the model has no linear head, and `ways` or `embedding` is missing.
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
        """Number of classes that it can tell apart."""
        return self.controller.ways

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"network", "label", "statistics"}`.

        Raises:
            InputError: the memory is too small for the support set; the task has more classes than scores.
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
        """Query set `[Q, ...]` -> scores `[Q, classes]`; only batch norm may make queries depend on each other."""
        embedded = self.embed_query(x, state["statistics"])
        _, scores = self._step(state["network"], embedded, state["label"])
        return scores

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns the loss that `protocol` names, and the query scores `[Q, classes]`."""
        if self.protocol == "episode":
            return super().loss(episode)
        x = torch.cat([episode.support_x, episode.query_x])
        y = torch.cat([episode.support_y, episode.query_y])
        order = shuffled(x)
        embedded, _ = self.embed_support(x)
        scores = self._present(embedded[order], y[order])[1][order.argsort()]
        return self.criterion(scores, y), scores[len(episode.support_y) :]

    def sequence(self, x: Tensor, y: Tensor) -> Tensor:
        """Examples `[L, ...]` and labels `[L]` in order -> scores `[L, classes]`, by the paper's protocol.

        The scores of an example depend on its own embedding, and on the earlier examples with their labels. A memory
        that is smaller than the sequence overwrites rows.

        Raises:
            InputError: the sequence has more classes than scores.
        """
        embedded, _ = self.embed_support(x)
        return self._present(embedded, y)[1]

    def _present(self, embedded: Tensor, y: Tensor) -> tuple[dict[str, Any], Tensor]:
        """Presents embeddings `[L, D]` in turn, labels `[L]` one step late; returns state and scores `[L, classes]`."""
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
    """Examples `[N, ...]` -> an order of them, `[N]` indices, that tells nothing of their classes.

    The examples are sorted by a checksum of their values. The order needs no random numbers, is the same on every
    device, and does not depend on the order in which the examples are given.
    """
    values = (x.reshape(len(x), -1).float() * 1024).round().long()
    places = torch.arange(1, values.shape[1] + 1, device=x.device)
    checksums = (values * places).sum(1) * MULTIPLIER % PRIME
    return torch.sort(checksums, stable=True).indices


def accuracy_by_presentation(scores: Tensor, y: Tensor) -> Tensor:
    """Scores `[..., L, classes]`, labels `[..., L]` -> accuracy at the 1st, 2nd, ... presentation of a class."""
    right, times = (scores.argmax(-1) == y).double(), presentations(y)
    return torch.stack([right[times == time].mean() for time in range(1, int(times.max()) + 1)])
