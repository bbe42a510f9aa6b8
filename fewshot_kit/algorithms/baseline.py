"""Chen, Liu, Kira, Wang and Huang, "A Closer Look at Few-shot Classification", ICLR 2019."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ._registry import register
from .bases.learns_classes import LearnsClasses
from .cosine import Cosine
from .logistic import Logistic


@register("baseline")
class Baseline(LearnsClasses, Logistic):
    """A linear classifier of all training classes trains the network; logistic regression solves new tasks.

    The paper fits a linear layer to a support set by 100 gradient steps. Here it is logistic regression, which is
    solved for, and cross-validation chooses its penalty. `LearnsClasses` describes the options of training, `Logistic`
    those of new tasks.
    """


@register("baseline_plus_plus")
class BaselinePlusPlus(LearnsClasses, Cosine):
    """Baseline++: the scores of training classes and of new tasks are cosine similarities.

    `LearnsClasses` describes the options of training, `Cosine` those of new tasks.
    """

    def __init__(self, model: nn.Module, *, scale: float = 10.0, **options: Any) -> None:
        super().__init__(model, scale=scale, **options)

    def classify(self, features: Tensor) -> Tensor:
        """Features `[N, D]` -> scores of all training classes `[N, classes]`: `scale` times the cosine similarity."""
        return self.scale * F.normalize(features, dim=-1) @ F.normalize(self.classifier.weight, dim=-1).T
