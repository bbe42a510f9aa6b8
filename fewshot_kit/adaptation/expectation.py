"""What accuracy to expect of a learner on new examples, told from its support set alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.bases.held_out import measurable
from ..errors import InputError

NORMAL = 1.96  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Expected:
    """The accuracy on new examples of the same classes, as few folds of the support set tell it, and how surely.

    Each fold holds out one example of every class, or a few, and is classified by what was learned from the others. A
    class's only example cannot be held out: with one example a class nothing is known, `accuracy` is None, and the
    interval goes from chance to 1. The folds learn from fewer examples than the learner, so that the figure is low by
    some points with two or three examples a class; from five on it is as good as its interval (docs/adapt.md).

    Args:
        accuracy: 0 to 1; None where nothing could be held out.
        low, high: Wilson's 95 % interval over the held-out examples.
        held_out: how many examples were.
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
    """What to expect of an algorithm that adapts to this support set `[S, ...]`, class indices `[S]`.

    It is adapted again for every fold, at most five times; heads on features embed the support set once.
    """
    return of_scores(algorithm.held_out(x, y), y)


def of_scores(held_out: Tensor, y: Tensor) -> Expected:
    """The same from held-out scores `[S, classes]`.

    Raises:
        InputError: scores that are not finite.
    """
    if not held_out.isfinite().all():
        raise InputError("The scores of the held-out examples are not finite; lower lr, or leave algorithm= out.")
    counted = measurable(y)
    right = int((held_out.argmax(-1) == y)[counted].sum())
    return wilson(right, int(counted.sum()), int(y.max()) + 1)


def wilson(right: int, number: int, ways: int) -> Expected:
    """Wilson's interval of a fraction: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical
    Inference", 1927."""
    if not number:
        return Expected(None, 1 / ways, 1.0, 0, ways)
    share, spread = right / number, NORMAL**2 / number
    middle = (share + spread / 2) / (1 + spread)
    half = NORMAL * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    return Expected(share, max(0.0, middle - half), min(1.0, middle + half), number, ways)
