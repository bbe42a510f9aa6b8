"""Divides classes into disjoint parts for training, validation and test. A seed fixes them on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...errors import InputError
from ...seeds import check_seed

OTHERWISE = "lower ways, or share the classes out otherwise by fractions="  # where a split has too few
FRACTIONS = (0.64, 0.16, 0.2)  # mini-ImageNet's 64, 16 and 20 classes of 100


def by_counts(counts: Sequence[int], seed: int) -> list[list[int]]:
    """Returns the class numbers 0 to sum(counts) - 1, shuffled by the seed and dealt out. Each part is sorted."""
    check_seed(seed)
    order = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(seed))
    return [sorted(part.tolist()) for part in order.split(list(counts))]


def by_fractions(classes: int, fractions: Sequence[float], seed: int, name: str) -> list[list[int]]:
    """Returns the training, validation and test classes, in these proportions.

    Every part gets at least two classes. Validation gets none if there are too few classes for that.

    Raises:
        InputError: there are fewer than four classes; the fractions are not three shares of 1.
    """
    shares = len(fractions) == 3 and all(isinstance(share, int | float) and 0 <= share <= 1 for share in fractions)
    if not shares or abs(sum(fractions) - 1) > 1e-6 or 0 in (fractions[0], fractions[2]):
        raise InputError(
            f"The fractions {tuple(fractions)} must be three shares that sum to 1 (train, validation, test); only "
            "validation may be 0."
        )
    if classes < 4:
        raise InputError(
            f"{name} has {classes} class{'es' * (classes != 1)}: too few to split into training and test classes; at "
            "least 4 are needed, to be shared out by fractions= or by folders train, val and test; a handful of "
            "classes needs no meta-training: give them to fewshot-kit adapt."
        )
    test = min(max(2, round(fractions[2] * classes)), classes - 2)
    validation = round(fractions[1] * classes)
    if validation < 2 or classes - test - validation < 2:
        validation = 0
    return by_counts([classes - test - validation, validation, test], seed)


def with_turns(classes: Sequence[str]) -> list[str]:
    """Class names, and those of the same turned by one, two and three quarters."""
    return [*classes, *(f"{label}/rot{90 * turns:03d}" for turns in (1, 2, 3) for label in classes)]
