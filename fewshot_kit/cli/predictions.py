"""A learner's predictions for image files, as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..runs.storage import write_bytes

WIDEST = 60  # most columns of a terminal for a path; a label gets half as many


@dataclass(frozen=True)
class Prediction:
    """The probability of every class for one image file, in the learner's order."""

    path: Path
    probabilities: dict[Hashable, float]

    @property
    def label(self) -> Hashable:
        """The most probable class. Of equal ones it is the first, as in `Learner.predict`."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """The probability of the most probable class."""
        return self.probabilities[self.label]

    @property
    def runner_up(self) -> Hashable:
        """The second most probable class."""
        best = self.label
        return max((label for label in self.probabilities if label != best), key=self.probabilities.__getitem__)


def collect(paths: Sequence[Path | str], classes: Sequence[Hashable], probabilities: Tensor) -> list[Prediction]:
    """Returns a prediction for each file, from the probabilities `[Q, classes]` of `predict_proba`."""
    rows = probabilities.tolist()
    return [Prediction(Path(path), dict(zip(classes, row, strict=True))) for path, row in zip(paths, rows, strict=True)]


def table(predictions: Sequence[Prediction]) -> str:
    """Returns aligned lines: image, label, probability and the second class. Long paths lose their start."""
    head = ("image", "label", "probability", "then")
    rows = [
        (
            shortened(str(one.path), WIDEST, keep_end=True),
            shortened(str(one.label), WIDEST // 2),
            _percent(one.probability),
            f"{shortened(str(one.runner_up), WIDEST // 2)} {_percent(one.probabilities[one.runner_up]).strip()}",
        )
        for one in predictions
    ]
    widths = [max(map(_columns, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for path, label, probability, second in [head, *rows]:
        left = [text + " " * (width - _columns(text)) for text, width in zip((path, label), widths, strict=False)]
        lines.append("  ".join([*left, f"{probability:>{widths[2]}}", second]))
    return "\n".join(lines)


def to_json(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Returns `{"classes", "predictions": [{"image", "label", "probability", "probabilities"}]}`, to four decimals."""
    return {
        "classes": _classes(predictions),
        "predictions": [
            {
                "image": str(one.path),
                "label": one.label,
                "probability": round(one.probability, 4),
                "probabilities": [round(value, 4) for value in one.probabilities.values()],
            }
            for one in predictions
        ],
    }


def write_csv(path: str | Path, predictions: Sequence[Prediction]) -> None:
    """Writes a line for each image: its path, label and probability, then the probability of every class.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "probability", *_classes(predictions)])
    for one in predictions:
        numbers = [f"{value:.6f}" for value in (one.probability, *one.probabilities.values())]
        writer.writerow([one.path, one.label, *numbers])
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))  # file names may be no valid text


def shortened(text: str, longest: int, keep_end: bool = False) -> str:
    """Returns one line of at most `longest` columns. Three dots replace the end, or with `keep_end` the start."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if _columns(text) <= longest:
        return text
    while _columns(text) > longest - 3:
        text = text[1:] if keep_end else text[:-1]
    return f"...{text}" if keep_end else f"{text}..."


def _columns(text: str) -> int:
    """Returns the text's columns in a terminal. Wide characters take two, combining marks take none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _classes(predictions: Sequence[Prediction]) -> list[Hashable]:
    return list(predictions[0].probabilities) if predictions else []
