"""The base of the algorithms that train a classifier of all training classes; a head on features solves new tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.splits.contract import TaskSplit, with_classes
from ...episodes import Episode
from ...errors import InputError
from ...modules.batch_norm import Policy, Source
from ...modules.heads import linear_head
from ...modules.layers import batch_norms
from ...ranges import check_counts
from .feature_head import FeatureHead


class LearnsClasses(FeatureHead):
    """A subclass also inherits from a head on features, which solves new tasks. `FeatureHead` has the other options.

    A meta-update learns from `meta_batch` labelled batches. Batch norm normalises each batch by itself and moves its
    stored statistics, which new tasks then use.

    Args:
        classes: number of training classes, with rotations counted if they are classes of their own. None leaves the
            network as it is, for adapting only.
        batch: number of images in a labelled batch.
        smoothing: share of a label that is spread evenly over all classes.
        batch_norm: as in `FeatureHead`, but by default the stored statistics if classes are learned.

    Raises:
        InputError: a count below 1, a share out of range; classes are to be learned, and the model has no linear head
            that tells the number of features.
    """

    fixed = FeatureHead.fixed | {"classes"}

    def __init__(
        self,
        model: nn.Module,
        *,
        classes: int | None = None,
        batch: int = 64,
        smoothing: float = 0.1,
        batch_norm: str | None = None,
        **options: Any,
    ) -> None:
        self.classes, self.batch, self.smoothing = classes, batch, smoothing
        stored = all(layer.running_mean is not None for layer in batch_norms(model).values())
        super().__init__(model, batch_norm=batch_norm or ("running" if classes and stored else None), **options)
        if classes is not None:
            check_counts(classes=classes)
            head = linear_head(model, options.get("head"))
            if head is None:
                raise InputError(
                    f"{type(model).__name__} has no linear head to tell how many features it gives; "
                    "end it with an nn.Linear, whatever its outputs, or name one by head=."
                )
            self.classifier = nn.Linear(head.in_features, classes).to(head.weight)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_counts(batch=self.batch)
        if not isinstance(self.smoothing, int | float) or not 0 <= self.smoothing < 1:
            raise InputError(f"smoothing is {self.smoothing!r}; it must be a share from 0 to less than 1.")

    def draw(
        self,
        split: TaskSplit,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> Episode:
        """Draws labelled batches `[T, batch, ...]`, `[T, batch]`, as queries without a support set.

        Raises:
            InputError: `classes` is not the number of the split's classes, or it has none.
        """
        labelled = with_classes(split, type(self).__name__)
        there = len(labelled.classes)
        if self.classes != there:
            was = "was not told" if self.classes is None else f"was made for {self.classes}"
            raise InputError(
                f"{type(self).__name__} {was} training classes and {split.name} has {there}; "
                f"create it with classes={there}."
            )
        x, y = labelled.labelled(meta_batch * self.batch, generator, device)
        x, y = (each.unflatten(0, (-1, self.batch)) for each in (x, y))  # as many batches as this process gathers
        return Episode(x[:, :0], y[:, :0], x, y)

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns the criterion of a labelled batch, with smoothed labels, and the scores `[batch, classes]`."""
        if self.classes is None:
            return super().loss(episode)
        source: Source = "moving" if self.training else "batch"
        with Policy("classes", source, source).on_queries(self.model, {}):
            scores = self.classify(self.model(episode.query_x).flatten(1))
        plain = self.criterion(scores, episode.query_y)
        return (1 - self.smoothing) * plain - self.smoothing * F.log_softmax(scores, -1).mean(), scores

    def classify(self, features: Tensor) -> Tensor:
        """Features `[N, D]` -> scores of all training classes `[N, classes]`."""
        scores: Tensor = self.classifier(features)
        return scores
