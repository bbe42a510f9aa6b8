"""What is trained on classes as classes: the network tells all training classes apart, and a head on its features does
new tasks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.splits.contract import TaskSplit, with_classes
from ...episodes import Episode
from ...errors import InputError
from ...modules.heads import linear_head
from ...modules.layers import batch_norms
from ...modules.modes import running
from ...ranges import check_counts
from .feature_head import FeatureHead


class LearnsClasses(FeatureHead):
    """A subclass inherits from a head on features too, which does new tasks. `FeatureHead` describes the other options.

    A meta-update learns from `meta_batch` labelled batches, each normalised by itself, which move batch norm's stored
    statistics; new tasks are done with these.

    Args:
        classes: how many training classes there are, each turn counted where turns are classes of their own. None
            leaves the network as it is, for adapting only.
        batch: images of a labelled batch.
        smoothing: share of a label that goes to all classes alike.
        batch_norm: as in `FeatureHead`, but the stored statistics where classes are learned.

    Raises:
        InputError: counts below 1, a share out of range; classes to learn without a linear head that says how many
            features there are.
    """

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
        """Labelled batches `[T, batch, ...]`, `[T, batch]`, as queries without a support set.

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
        x, y = x.unflatten(0, (meta_batch, self.batch)), y.unflatten(0, (meta_batch, self.batch))
        return Episode(x[:, :0], y[:, :0], x, y)

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The smoothed criterion of a labelled batch, and its scores `[batch, classes]`."""
        if self.classes is None:
            return super().loss(episode)
        with running(self.model, batch_statistics=True, moving=self.training):
            scores = self.classify(self.model(episode.query_x).flatten(1))
        plain = self.criterion(scores, episode.query_y)
        return (1 - self.smoothing) * plain - self.smoothing * F.log_softmax(scores, -1).mean(), scores

    def classify(self, features: Tensor) -> Tensor:
        """Features `[N, D]` -> scores of all training classes `[N, classes]`."""
        scores: Tensor = self.classifier(features)
        return scores
