"""Estimates a learner's accuracy on new examples from its support set alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.bases.held_out import measurable
from ..errors import InputError

NORMAL = 1.96  # half width of a 95 % interval, in standard errors


@dataclass(frozen=True)
class Expected:
    """The expected accuracy on new examples of the same classes, estimated on folds of the support set.

    Each fold holds out one or a few examples of every class, and classifies them after learning from the others. A
    class's only example cannot be held out. With one example per class `accuracy` is None, and the interval goes from
    chance to 1. The folds learn from fewer examples than the learner, so the estimate is some points too low with two
    or three examples per class. From five examples on it is as good as its interval (docs/adapt.md).

    Args:
        accuracy: 0 to 1; None if nothing could be held out.
        low, high: Wilson's 95 % interval over the held-out examples.
        held_out: number of held-out examples.
        ways: classes of the task.
    """

    accuracy: float | None
    low: float
    high: float
    held_out: int
    ways: int

    def __str__(self) -> str:
        if self.accuracy is None:
            return (
                f"anything from {self.low:.0%} to {self.high:.0%}: one example a class does not tell how its class "
                "varies; give two or more"
            )
        return f"{self.accuracy:.0%} ({self.low:.0%} to {self.high:.0%}, from {self.held_out} held-out examples)"


def expectation(algorithm: Algorithm, x: Tensor, y: Tensor) -> Expected:
    """Returns the expected accuracy of an algorithm on a task with support examples `[S, ...]` and classes `[S]`.

    The algorithm adapts once per fold, at most five times. Heads on features embed the support set once.
    """
    return of_scores(algorithm.held_out(x, y), y)


def of_scores(held_out: Tensor, y: Tensor) -> Expected:
    """Returns the expected accuracy from held-out scores `[S, classes]` and class indices `[S]`.

    Raises:
        InputError: scores that are not finite.
    """
    if not held_out.isfinite().all():
        raise InputError("The scores of the held-out examples are not finite; lower lr, or leave algorithm= out.")
    counted = measurable(y)
    right = int((held_out.argmax(-1) == y)[counted].sum())
    return wilson(right, int(counted.sum()), int(y.max()) + 1)


def wilson(right: int, number: int, ways: int) -> Expected:
    """Returns the expected accuracy with Wilson's interval of a fraction.

    E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", 1927.
    """
    if not number:
        return Expected(None, 1 / ways, 1.0, 0, ways)
    share, spread = right / number, NORMAL**2 / number
    middle = (share + spread / 2) / (1 + spread)
    half = NORMAL * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    return Expected(share, max(0.0, middle - half), min(1.0, middle + half), number, ways)
