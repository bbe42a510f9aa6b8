"""What a learner said of image files, for people and for programs."""

from __future__ import annotations

import csv
import io
import sys
import unicodedata
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from torch import Tensor

from ..runs.storage import write_bytes

WIDEST = 60  # columns of a terminal for a path, and half as many for a label


@dataclass(frozen=True)
class Prediction:
    """The probability of every class for one image file, in the learner's order."""

    path: Path
    probabilities: dict[Hashable, float]

    @property
    def label(self) -> Hashable:
        """The most probable class; of equals the first, as `Learner.predict` has it."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def probability(self) -> float:
        """That class's probability."""
        return self.probabilities[self.label]

    @property
    def runner_up(self) -> Hashable:
        """The most probable class but one."""
        best = self.label
        return max((label for label in self.probabilities if label != best), key=self.probabilities.__getitem__)


def collect(paths: Sequence[Path | str], classes: Sequence[Hashable], probabilities: Tensor) -> list[Prediction]:
    """Files, classes and `predict_proba`'s `[Q, classes]` -> a prediction for each file."""
    rows = probabilities.tolist()
    return [Prediction(Path(path), dict(zip(classes, row, strict=True))) for path, row in zip(paths, rows, strict=True)]


def table(predictions: Sequence[Prediction]) -> str:
    """Aligned lines of text: image, label, probability, and the class that came second. Long paths lose their start."""
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
    """`{"classes", "predictions": [{"image", "label", "probability", "probabilities"}]}`, rounded to four places."""
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
    """A line for each image: its path, label and probability, then the probability of every class.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "probability", *_classes(predictions)])
    for one in predictions:
        numbers = [f"{value:.6f}" for value in (one.probability, *one.probabilities.values())]
        writer.writerow([one.path, one.label, *numbers])
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))  # a name of a file may be no text at all


def printable(text: str, stream: TextIO | None = None) -> str:
    """The text with a question mark for what a terminal cannot show, so that no label ends in a traceback.

    Args:
        text: lines of any characters.
        stream: where it will be printed; standard output unless given.
    """
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def shortened(text: str, longest: int, keep_end: bool = False) -> str:
    """One line of at most `longest` columns; what was cut off, at the end or the start, is three dots."""
    text = "".join(character if character.isprintable() else "?" for character in text)
    if _columns(text) <= longest:
        return text
    while _columns(text) > longest - 3:
        text = text[1:] if keep_end else text[:-1]
    return f"...{text}" if keep_end else f"{text}..."


def _columns(text: str) -> int:
    """Columns in a terminal: wide characters take two, marks that combine with others none."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def _percent(probability: float) -> str:
    return f"{100 * probability:.1f} %"


def _classes(predictions: Sequence[Prediction]) -> list[Hashable]:
    return list(predictions[0].probabilities) if predictions else []
