"""What the metric algorithms share: the model, without its head, embeds the examples; nothing is adapted by steps."""

from __future__ import annotations

import contextlib

from torch import Tensor, nn

from ...modules.batching import in_batches
from ...modules.heads import without_head
from ...modules.layers import batch_norms
from ...modules.modes import Statistics, check_policy, collected, looks_at_the_batch, normalised_by, running
from .protocol import Algorithm, Criterion


class Metric(Algorithm):
    """A subclass compares the embeddings of queries with those of the support set.

    Args:
        model: any `nn.Module`; its head is left out, and the head's input `[N, D]` is the embedding. A model without a
            linear head is an embedding as it is. The rest of it is trained in place.
        head: name of the head; by default the last `nn.Linear`.
        batch_norm: where batch norm takes its statistics from. `transductive`: support and query set each from
            themselves. `support`: both from the support set (inductive). `running`: the stored ones, which training
            moves as PyTorch does, each pass normalised by itself (inductive, and the same for any number of ways).
        criterion: `(scores, targets) -> scalar`; by default cross-entropy.

    Raises:
        InputError: an unknown policy or head.
    """

    regression = False
    moves = True  # whether training moves the stored statistics, where `batch_norm` is `running`

    def __init__(
        self,
        model: nn.Module,
        *,
        head: str | None = None,
        batch_norm: str = "transductive",
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(without_head(model, head), criterion)
        self.batch_norm = batch_norm
        self.check()

    def check(self) -> None:
        """Raises `InputError` for options out of range; to be called again when one was replaced."""
        check_policy(self.model, self.batch_norm)

    def embed_support(self, x: Tensor) -> tuple[Tensor, Statistics]:
        """Support set `[S, ...]` -> embeddings `[S, D]`, and the batch-norm statistics that queries are to use."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._normalising(self.batch_norm != "running"))
            statistics = stack.enter_context(collected(self.model)) if self.batch_norm == "support" else {}
            return self._embed(x, self._alone), statistics

    def embed_query(self, x: Tensor, statistics: Statistics) -> Tensor:
        """Query set `[Q, ...]` -> embeddings `[Q, D]`."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._normalising(self.batch_norm == "transductive"))
            if self.batch_norm == "support":
                stack.enter_context(normalised_by(self.model, statistics))
            # The hooks that put a support set's statistics in place count the calls of each layer: one batch for all.
            return self._embed(x, self._alone)

    @property
    def _alone(self) -> bool:
        """Whether batch norm takes an example by itself."""
        return self.batch_norm == "running" and not (self.training and self.moves)

    def _normalising(self, batch_statistics: bool) -> contextlib.AbstractContextManager[None]:
        if self.batch_norm == "running" and self.training and self.moves:
            return running(self.model, batch_statistics=True, moving=True)
        return running(self.model, batch_statistics=batch_statistics)

    def _embed(self, x: Tensor, alone: bool) -> Tensor:
        def run(part: Tensor) -> Tensor:
            embedded: Tensor = self.model(part).flatten(1)
            return embedded

        return in_batches(run, x) if alone or not batch_norms(self.model) else run(x)

    @property
    def together(self) -> bool:
        """Also where batch norm takes its statistics from the queries."""
        return self.transductive or looks_at_the_batch(self.model, self.batch_norm)
