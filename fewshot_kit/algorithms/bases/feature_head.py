"""The base of the heads on features: a frozen network embeds examples, and a classifier is fitted to the embeddings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.splits.contract import TaskSplit, with_classes
from ...errors import InputError
from ...modules.batch_norm import find_policy, usual_policy
from ...modules.layers import batch_norms
from ...modules.place import place_of
from .held_out import by_folds
from .metric import Metric
from .protocol import Algorithm, State
from .views import COUNTS, views_of


class FeatureHead(Metric):
    """A subclass fits a classifier to the embeddings of a support set (`fit`) and scores those of queries (`score`).

    Embeddings are centred on the mean of the base classes and L2-normalised, which makes almost any head better
    (Wang et al., "SimpleShot", 2019). `begin` takes the mean from the training split if the network stays frozen; an
    unknown mean is not subtracted. The state of a task is `{"fitted": result of `fit`, "statistics"}`.

    Args:
        model: as in `Metric`; `nn.Identity()` if the examples are features already.
        head: as in `Metric`.
        batch_norm: as in `Metric`. By default, batch norm uses the stored statistics if training has moved them, and
            else those of the support set (`modules.batch_norm.usual_policy`).
        views: number of views that an image's embedding is averaged over, for support set and queries alike: 1, 2 (the
            image and its mirror image) or 10 (these and four corner crops of each). The time grows by the same factor.
            Views of the support set alone did not help when tried.
        criterion: `(scores, targets) -> scalar`; by default cross-entropy.

    Raises:
        InputError: an unknown policy or head, another number of views.
    """

    base_mean: Tensor  # [D]; empty if it is not known
    _given = False  # whether the examples are normalised embeddings

    def __init__(self, model: nn.Module, *, batch_norm: str | None = None, views: int = 1, **options: Any) -> None:
        self.views = views
        super().__init__(model, batch_norm=batch_norm or usual_policy(model), **options)
        self.register_buffer("base_mean", torch.empty(0, **place_of(model)))

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self.views not in COUNTS:
            raise InputError(f"views is {self.views!r}; it must be one of {', '.join(map(str, COUNTS))}.")

    def on_embeddings(self) -> tuple[Callable[[Tensor], Tensor], Algorithm] | None:
        """Returns the map to normalised embeddings and the head for them; None if batch norm mixes the examples."""
        if find_policy(self.batch_norm).queries != "stored" and batch_norms(self.model):
            return None
        other = copy.copy(self)
        other._modules = self._modules | {"model": nn.Identity()}
        other.views, other._given = 1, True
        return lambda x: self.normalised(self.embed_alone(x)), other

    def embed_alone(self, x: Tensor) -> Tensor:
        """Examples `[N, ...]` -> embeddings `[N, D]`, not normalised."""
        return self.embed_support(x)[0]

    def _features(self, embedded: Tensor) -> Tensor:
        return embedded if self._given else self.normalised(embedded)

    def embed(self, x: Tensor) -> Tensor:
        """Examples `[N, ...]` -> embeddings `[N, D]`, the mean over the views."""
        seen = [super(FeatureHead, self).embed(view) for view in views_of(x, self.views)]
        embedded = seen[0] if len(seen) == 1 else torch.stack(seen).mean(0)
        return embedded.float() if embedded.dtype in (torch.float16, torch.bfloat16) else embedded  # to solve with

    def fit(self, features: Tensor, y: Tensor) -> State:
        """Normalised support embeddings `[S, D]`, class indices `[S]` -> the fitted classifier, as `score` needs it."""
        raise NotImplementedError(f"{type(self).__name__} does not define fit(features, y).")

    def score(self, fitted: State, features: Tensor) -> Tensor:
        """Normalised query embeddings `[Q, D]` -> scores `[Q, classes]`."""
        raise NotImplementedError(f"{type(self).__name__} does not define score(fitted, features).")

    def held_out(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the scores that `Algorithm.held_out` describes; the support set is embedded only once."""
        return self.held_out_features(self.normalised(self.embed_support(x)[0]), y)

    def held_out_features(self, features: Tensor, y: Tensor) -> Tensor:
        """Normalised support embeddings `[S, D]`, `[S]` -> held-out scores `[S, classes]`.

        Each example is scored by a head that was fitted without the example's fold. The only example of a class has
        the scores 0.
        """
        return by_folds(lambda x, y, held: self.score(self.fit(x, y), held), features, y)

    def normalised(self, embedded: Tensor) -> Tensor:
        """Returns the embeddings `[N, D]` minus the base classes' mean, if it is known, scaled to length 1."""
        return F.normalize(embedded - self.base_mean if self.base_mean.numel() else embedded, dim=-1)

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"fitted", "statistics"}`."""
        embedded, statistics = self.embed_support(x)
        return {"fitted": self.fit(self._features(embedded), y), "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        return self.score(state["fitted"], self._features(self.embed_query(x, state["statistics"])))

    def begin(self, split: TaskSplit, iterations: int) -> None:
        """Takes the mean embedding of 1,000 to 2,000 examples, spread over the training split, or of all if fewer.

        The mean is left unknown if meta-updates follow, since they will move the embeddings.
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
