"""The base of the metric algorithms: the model without its head embeds the examples, and there is no inner loop."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from ...modules.batch_norm import Policy, Statistics, find_policy
from ...modules.batching import in_batches
from ...modules.heads import without_head
from ...modules.layers import batch_norms
from .protocol import Algorithm, Criterion


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

    @property
    def together(self) -> bool:
        """Whether the scores of a query depend on the other queries: by the method, or by batch norm's statistics."""
        return self.transductive or self.policy.together(self.model)
