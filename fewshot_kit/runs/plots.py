"""The plot of a run's metrics."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .storage import write_bytes


def curve(metrics: Sequence[dict[str, Any]], path: str | Path) -> None:
    """Plots loss and accuracy (or mean squared error) of training and validation against the iteration, as a PNG.

    Faint lines are single meta-batches. Strong lines are running means over a twentieth of the run. The validation's
    bars are 95% intervals.

    Args:
        metrics: the lines of `metrics.jsonl`.
        path: the picture's file; it is replaced as a whole.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _trained(left, metrics, "loss", 1)
    _validated(left, metrics, "loss", 1)
    left.set_ylabel("loss")
    if any("accuracy" in line or "validation_accuracy" in line for line in metrics):
        _trained(right, metrics, "accuracy", 100)
        _validated(right, metrics, "accuracy", 100)
        right.set_ylabel("accuracy on queries (%)")
    else:
        _validated(right, metrics, "mse", 1)
        right.set_ylabel("mean squared error on queries")
    for axes in (left, right):
        axes.set_xlabel("iteration")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(path, picture.getvalue())


def _trained(axes: Any, metrics: Sequence[dict[str, Any]], key: str, scale: float) -> None:
    lines = [line for line in metrics if _finite(line.get(key))]
    iterations = [line["iteration"] for line in lines]
    values = np.array([scale * line[key] for line in lines])
    if not len(values):
        return
    axes.plot(iterations, values, color="C0", alpha=0.2, linewidth=0.8)
    axes.plot(iterations, running_mean(values, max(1, len(values) // 20)), color="C0", label="training")


def _validated(axes: Any, metrics: Sequence[dict[str, Any]], key: str, scale: float) -> None:
    lines = [line for line in metrics if _finite(line.get(f"validation_{key}"))]
    if not lines:
        return
    values = [scale * line[f"validation_{key}"] for line in lines]
    bars = (
        None if key == "loss" else [scale * line["validation_interval"] for line in lines]
    )  # the interval is that of the measure, not of the loss
    axes.errorbar(
        [line["iteration"] for line in lines], values, bars, color="C1", marker="o", markersize=4, label="validation"
    )


def _finite(value: float | None) -> bool:
    """Whether there is a value to plot: an update that was skipped has none, nor has a validation that diverged."""
    return value is not None and math.isfinite(value)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Returns for each value the mean of the last `window` values up to it, of fewer at the start."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)
