"""What the heads on features share: a frozen network embeds, and a classifier is fitted to its embeddings."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.splits.contract import TaskSplit, with_classes
from ...errors import InputError
from ...modules.layers import batch_norms
from ...modules.modes import usual_policy
from .held_out import by_folds
from .metric import Metric
from .protocol import State
from .views import COUNTS, views_of


class FeatureHead(Metric):
    """A subclass fits a classifier to the embeddings of a support set (`fit`) and scores those of queries (`score`).

    Embeddings are centred on the mean of the base classes, where it is known (`begin` takes it from the training
    split of a frozen network), and L2-normalised: what makes almost any head better (Wang et al., "SimpleShot", 2019).
    The state of a task is `{"fitted": what `fit` gave, "statistics"}`.

    Args:
        model: as in `Metric`; `nn.Identity()` where the examples are features already.
        head: as in `Metric`.
        batch_norm: as in `Metric`; by default the stored statistics, or those of the support set where a network's
            stored ones were never moved (`modes.usual_policy`).
        views: average an image's embedding over 1, 2 (mirrored) or 10 (and four corners of each) views, of support and
            query alike, which takes as many times longer. Of the support set alone it gave nothing when tried.
        criterion: `(scores, targets) -> scalar`; by default cross-entropy.

    Raises:
        InputError: an unknown policy or head, another number of views.
    """

    base_mean: Tensor  # [D]; empty where it is not known
    _given = False  # whether the examples are normalised embeddings

    def __init__(self, model: nn.Module, *, batch_norm: str | None = None, views: int = 1, **options: Any) -> None:
        self.views = views
        super().__init__(model, batch_norm=batch_norm or usual_policy(model), **options)
        beside = next(model.parameters(), torch.empty(0))  # on whose device, and in whose dtype
        self.register_buffer("base_mean", beside.new_empty(0))

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self.views not in COUNTS:
            raise InputError(f"views is {self.views!r}; it must be one of {', '.join(map(str, COUNTS))}.")

    @property
    def embeds_alone(self) -> bool:
        """Whether the embedding of an example depends on nothing but itself."""
        return self.batch_norm == "running" or not batch_norms(self.model)

    def on_embeddings(self) -> FeatureHead:
        """The same head for examples that are normalised embeddings already."""
        other = copy.copy(self)
        other._modules = self._modules | {"model": nn.Identity()}
        other.views, other._given = 1, True
        return other

    def _features(self, embedded: Tensor) -> Tensor:
        return embedded if self._given else self.normalised(embedded)

    def _embed(self, x: Tensor, alone: bool) -> Tensor:
        seen = [super(FeatureHead, self)._embed(view, alone) for view in views_of(x, self.views)]
        embedded = seen[0] if len(seen) == 1 else torch.stack(seen).mean(0)
        return embedded.float() if embedded.dtype in (torch.float16, torch.bfloat16) else embedded  # to solve with

    def fit(self, features: Tensor, y: Tensor) -> State:
        """Normalised support embeddings `[S, D]`, class indices `[S]` -> what `score` needs."""
        raise NotImplementedError(f"{type(self).__name__} does not define fit(features, y).")

    def score(self, fitted: State, features: Tensor) -> Tensor:
        """Normalised query embeddings `[Q, D]` -> scores `[Q, classes]`."""
        raise NotImplementedError(f"{type(self).__name__} does not define score(fitted, features).")

    def held_out(self, x: Tensor, y: Tensor) -> Tensor:
        """As `Algorithm` has it; the support set is embedded once."""
        return self.held_out_features(self.normalised(self.embed_support(x)[0]), y)

    def held_out_features(self, features: Tensor, y: Tensor) -> Tensor:
        """Normalised support embeddings `[S, D]`, `[S]` -> scores `[S, classes]`, each by a head that was fitted
        without that example's fold; 0 where a class has no other example.
        """
        return by_folds(lambda x, y, held: self.score(self.fit(x, y), held), features, y)

    def normalised(self, embedded: Tensor) -> Tensor:
        """Embeddings `[N, D]`, centred on the base classes' mean where it is known, of length 1."""
        return F.normalize(embedded - self.base_mean if self.base_mean.numel() else embedded, dim=-1)

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"fitted", "statistics"}`."""
        embedded, statistics = self.embed_support(x)
        return {"fitted": self.fit(self._features(embedded), y), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        return self.score(state["fitted"], self._features(self.embed_query(x, state["statistics"])))

    def begin(self, split: TaskSplit, iterations: int) -> None:
        """Take the mean of the training classes' embeddings, over at most 1,000 examples spread over the split.

        With meta-updates to come the embeddings are going to move, and no mean is known.
        """
        if iterations:
            self.base_mean = self.base_mean.new_empty(0)
            return
        examples = with_classes(split, type(self).__name__)
        every = max(1, len(examples) // 1000)
        x = torch.stack([examples[index][0] for index in range(0, len(examples), every)])
        with torch.no_grad():
            embedded, _ = self.embed_support(x.to(self.base_mean.device, self.base_mean.dtype))
        self.base_mean = embedded.mean(0)
