"""The pictures of the page."""

from __future__ import annotations

import io
import statistics
from pathlib import Path
from typing import Any

from fewshot_kit.runs.storage import write_bytes

from .jobs import Job
from .report import Section, figures, goals_of


def draw_all(results: dict[str, Section], jobs: dict[str, Job], folder: Path) -> None:
    """Draw every picture that these results have something for."""
    for name in names(results, jobs):
        (_ratios if name == "ratios.png" else _growth)(results, jobs, folder / name)


def names(results: dict[str, Section], jobs: dict[str, Job]) -> list[str]:
    """The files of the pictures: the ratios of all jobs, and one for each job that grows."""
    compared = [name for name in jobs if name in results and _bars(results[name], jobs[name])]
    growing = [f"{name}.png" for name in jobs if "axes" in results.get(name, {})]
    return (["ratios.png"] if compared else []) + growing


def _bars(section: Section, job: Job) -> list[tuple[str, float, float | None]]:
    """Label, ratio by medians and the ratio that is at least wanted."""
    bars = []
    for goal in goals_of(job, section) if "contestants" in section else ():
        found = figures(job, section, goal) if goal.measure == "time" else None
        if found is not None:
            whose = "" if goal.against == "learn2learn" else f"\nagainst {goal.against}"
            bars.append((f"{job.title}\n{goal.contestant}{whose}", found[0], goal.at_least))
    return bars


def _ratios(results: dict[str, Section], jobs: dict[str, Job], path: Path) -> None:
    from matplotlib.ticker import FuncFormatter

    bars = [bar for name in jobs if name in results for bar in _bars(results[name], jobs[name])]
    figure = _figure(9, 0.9 + 0.5 * len(bars))
    axes = figure.subplots()
    rows = range(len(bars))
    axes.barh(rows, [ratio - 1 for _, ratio, _ in bars], left=1, color="C0", height=0.6)
    edge = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center"}
    for row, (_, ratio, wanted) in enumerate(bars):
        axes.annotate(f"{ratio:.3g}x", (1, row), xytext=(6, 0), **edge)
        if wanted is not None:
            axes.plot([wanted, wanted], [row - 0.38, row + 0.38], color="C1", linewidth=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(rows, [label for label, *_ in bars], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_xlabel("times as fast as the peer, by medians of one run (orange: at least wanted)")
    _save(figure, path)


def _growth(results: dict[str, Section], jobs: dict[str, Job], path: Path) -> None:
    section = results[path.stem]
    figure = _figure(9, 3.4)
    panels = figure.subplots(1, len(section["axes"]), squeeze=False, sharey=True)[0]
    for axes, (axis, points) in zip(panels, section["axes"].items(), strict=True):
        for number, who in enumerate(points[0]["contestants"]):
            timed = [(point["value"], point["contestants"][who].get("seconds")) for point in points]
            line = [(value, 1000 * statistics.median(seconds)) for value, seconds in timed if seconds]
            axes.plot(*zip(*line, strict=True), color=f"C{1 - number % 2}", marker="o", markersize=4, label=who)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([point["value"] for point in points], [str(point["value"]) for point in points])
        axes.minorticks_off()
        axes.set_xlabel(axis)
        _tidy(axes)
    panels[0].set_ylabel("one meta-gradient (ms)")
    panels[0].legend(frameon=False)
    figure.suptitle(jobs[path.stem].title, fontsize=10)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    for axes in figure.axes:
        _tidy(axes)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    write_bytes(path, picture.getvalue())
