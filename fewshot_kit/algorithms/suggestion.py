"""Suggests an algorithm for a setting by looking it up in the project's own measurements."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..ranges import check_counts
from ._registry import get

MEASURED = Path(__file__).with_name("measured.json")  # written by benchmarks/algorithms.py


@dataclass(frozen=True)
class Row:
    """One measurement: an algorithm on one setting, with its mean accuracy on unseen classes (0 to 1)."""

    algorithm: str
    options: dict[str, Any]  # the algorithm's options that differ from the defaults
    dataset: str
    model: str
    classes: int  # number of classes of meta-training; 0 if nothing was meta-trained
    images_per_class: int  # number of images of each of these classes
    ways: int
    shots: int
    iterations: int
    meta_batch: int
    accuracy: float
    interval: float  # half the width of the 95 % confidence interval

    def __str__(self) -> str:
        figure = f"{100 * self.accuracy:.2f} +- {100 * self.interval:.2f} %"
        trained = f"{self.iterations} x {self.meta_batch} tasks of {self.classes} classes x {self.images_per_class}"
        how = trained if self.iterations else "not meta-trained"
        named = " ".join([self.algorithm, *(f"{name}={value}" for name, value in self.options.items())])
        named += " (transductive)" * get(self.algorithm).transductive  # type: ignore[attr-defined]
        return f"{named}: {figure} on {self.dataset}, {self.ways}-way {self.shots}-shot, {self.model}, {how}"


@dataclass(frozen=True)
class Suggestion:
    """The best algorithm of the measured setting that is nearest to the requested one."""

    algorithm: str
    options: dict[str, Any]  # the options that it was measured with
    alike: list[Row]  # rows whose intervals overlap with that of the best row, which is among them
    rows: list[Row]  # all rows of that setting, best first


def measured() -> list[Row]:
    """Returns all rows of the project's own table of measurements."""
    return [Row(**row) for row in json.loads(MEASURED.read_text())]


def suggest(*, classes: int, images_per_class: int, ways: int = 5, shots: int = 1) -> Suggestion:
    """Returns the algorithm that did best in the measured setting nearest to this one.

    Args:
        classes: number of classes to meta-train on. If it is below `ways`, only measurements without meta-training
            count.
        images_per_class: number of images of each of these classes.
        ways, shots: ways and shots of the new tasks.

    Raises:
        InputError: a count is out of range.
    """
    check_counts(images_per_class=images_per_class, ways=ways, shots=shots)
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 0:
        raise InputError(f"classes is {classes!r}; it must be a whole number, 0 or more.")
    trained = classes >= max(ways, 2)
    wanted = (classes, images_per_class, ways, shots) if trained else (0, 0, ways, shots)
    rows = [row for row in measured() if bool(row.iterations) == trained]
    nearest = min((_setting(row) for row in rows), key=lambda setting: _apart(setting, wanted))
    rows = sorted((row for row in rows if _setting(row) == nearest), key=lambda row: -row.accuracy)
    alike = [row for row in rows if row.accuracy + row.interval >= rows[0].accuracy - rows[0].interval]
    return Suggestion(rows[0].algorithm, rows[0].options, alike, rows)


def _setting(row: Row) -> tuple[int, int, int, int]:
    return row.classes, row.images_per_class, row.ways, row.shots


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Returns the distance of two settings: the sum of the absolute log ratios of their counts, each plus 1."""
    return sum(abs(math.log((a + 1) / (b + 1))) for a, b in zip(one, other, strict=True))
