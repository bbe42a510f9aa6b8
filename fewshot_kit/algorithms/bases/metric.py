"""The base of the metric algorithms: the model without its head embeds the examples, and there is no inner loop."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ...episodes import Episode
from ...modules.batch_norm import Policy, Statistics, find_policy
from ...modules.batching import in_batches
from ...modules.heads import without_head
from ...modules.layers import batch_norms
from .protocol import Algorithm, Criterion

VALUES = 2**19  # query values that `at_once` compares at a time, so that they stay in a CPU's cache


class Metric(Algorithm):
    """A subclass compares the embeddings of queries with those of the support set.

    Args:
        model: any `nn.Module`. Its head is left out, and the input of the head, `[N, D]`, is the embedding. The output
            of a model without a linear head is the embedding. The model is trained in place.
        head: name of the head; by default the last `nn.Linear`.
        batch_norm: where batch norm takes its statistics from. `transductive`: support and query set each from
            themselves. `support`: both from the support set (inductive). `running`: from the stored statistics
            (inductive, and the same for any number of ways); in training each pass is normalised by itself and moves
            the stored statistics, as PyTorch does.
        criterion: `(scores, targets) -> scalar`; by default cross-entropy.

    Raises:
        InputError: an unknown policy or head.
    """

    fixed = frozenset({"head"})
    regression = False
    moves = True  # whether training moves the stored statistics if `batch_norm` is `running`

    def __init__(
        self,
        model: nn.Module,
        *,
        head: str | None = None,
        batch_norm: str = "transductive",
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(without_head(model, head), criterion)
        self.batch_norm: str = batch_norm

    def check(self) -> None:
        """Raises `InputError` for a batch-norm policy that does not exist or that the model cannot follow."""
        self.policy.check(self.model)

    @property
    def policy(self) -> Policy:
        """Returns how batch norm runs; a subclass may override it."""
        found = find_policy(self.batch_norm)
        moving = found.support == "stored" and self.training and self.moves
        return replace(found, support="moving", queries="moving") if moving else found

    def embed(self, x: Tensor) -> Tensor:
        """Examples `[N, ...]` -> embeddings `[N, D]`.

        `embed_support` and `embed_query` set batch norm before they call it. A subclass may override it to embed in
        another way.
        """
        return self._run(x) if batch_norms(self.model) and self.policy.queries != "stored" else in_batches(self._run, x)

    def _run(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.model(x).flatten(1)
        return embedded

    def embed_support(self, x: Tensor) -> tuple[Tensor, Statistics]:
        """Support set `[S, ...]` -> embeddings `[S, D]`, and the batch-norm statistics for the queries."""
        with self.policy.on_support(self.model), self.policy.kept(self.model) as statistics:
            return self.embed(x), statistics

    def embed_query(self, x: Tensor, statistics: Statistics) -> Tensor:
        """Query set `[Q, ...]` -> embeddings `[Q, D]`."""
        with self.policy.on_queries(self.model, statistics):
            return self.embed(x)

    def scores_of(self, support: Tensor, y: Tensor, query: Tensor) -> Tensor:
        """Embeddings `[T, S, D]`, class indices `[T, S]`, embeddings `[T, Q, D]` -> scores `[T, Q, classes]`.

        They are those of `adapt` and `predict`. A subclass may define it, to be evaluated faster on features.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define scores_of(support, y, query).")

    def at_once(self, episodes: Episode) -> Tensor | None:
        """Returns the scores that `Algorithm.at_once` describes, if the examples are embeddings (`nn.Identity()`).

        The class itself has to define `scores_of`; that of its base says nothing of a subclass with another `predict`.
        """
        if type(self.model) is not nn.Identity or "scores_of" not in vars(type(self)):
            return None
        each = max(1, VALUES // episodes.query_x[0].numel())
        parts = zip(*(tensor.split(each) for tensor in episodes[:3]), strict=True)
        return torch.cat([self.scores_of(self._embed_all(s), y, self._embed_all(q)) for s, y, q in parts])

    def _embed_all(self, x: Tensor) -> Tensor:
        return self.embed(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    @property
    def together(self) -> bool:
        """Whether the scores of a query depend on the other queries: by the method, or by batch norm's statistics."""
        return self.transductive or self.policy.together(self.model)
