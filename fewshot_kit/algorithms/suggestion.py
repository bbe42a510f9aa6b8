"""Which algorithm to take: looked up in what the project has measured, never computed by a rule of thumb."""

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
    options: dict[str, Any]  # of the algorithm, where they were not the default ones
    dataset: str
    model: str
    classes: int  # to meta-train on; 0: nothing was meta-trained
    images_per_class: int  # of these
    ways: int
    shots: int
    iterations: int
    meta_batch: int
    accuracy: float
    interval: float  # half width, 95 %

    def __str__(self) -> str:
        figure = f"{100 * self.accuracy:.2f} +- {100 * self.interval:.2f} %"
        trained = f"{self.iterations} x {self.meta_batch} tasks of {self.classes} classes x {self.images_per_class}"
        how = trained if self.iterations else "not meta-trained"
        named = " ".join([self.algorithm, *(f"{name}={value}" for name, value in self.options.items())])
        named += " (transductive)" * get(self.algorithm).transductive  # type: ignore[attr-defined]
        return f"{named}: {figure} on {self.dataset}, {self.ways}-way {self.shots}-shot, {self.model}, {how}"


@dataclass(frozen=True)
class Suggestion:
    """The algorithm that did best where the measured setting is nearest to the one asked for."""

    algorithm: str
    options: dict[str, Any]  # it was measured with
    alike: list[Row]  # those whose intervals overlap with the best one's, itself included
    rows: list[Row]  # all of that setting, best first: what the answer rests on


def measured() -> list[Row]:
    """Every row of the project's own table."""
    return [Row(**row) for row in json.loads(MEASURED.read_text())]


def suggest(*, classes: int, images_per_class: int, ways: int = 5, shots: int = 1) -> Suggestion:
    """The algorithm that was measured best in the setting nearest to this one.

    Args:
        classes: how many there are to meta-train on; with fewer than `ways`, only what was measured without
            meta-training counts.
        images_per_class: how many each of them has.
        ways, shots: of the tasks to come.

    Raises:
        InputError: a count out of range.
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
    """How many times larger one is than the other, all in all, as a logarithm."""
    return sum(abs(math.log((a + 1) / (b + 1))) for a, b in zip(one, other, strict=True))
