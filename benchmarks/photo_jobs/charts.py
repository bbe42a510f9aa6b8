"""The picture of the page: every head's accuracy, balanced and unbalanced."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from fewshot_kit.runs.storage import write_bytes

COLOURS = {"kit": "#0072b2", "scikit-learn": "#e69f00", "easyfsl": "#999999"}  # Okabe and Ito, 2008


def draw(results: dict[str, Any], path: Path) -> None:
    """One panel for each number of shots; a dot with balanced queries, a ring with unbalanced ones."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    settings = list(results["settings"].items())
    half = len(settings) // 2
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axes, (title, balanced), (_, unbalanced) in zip(
        figure.subplots(1, half), settings[:half], settings[half:], strict=True
    ):
        order = sorted(range(len(balanced)), key=lambda number: balanced[number]["accuracy"])
        for place, number in enumerate(order):
            row, other = balanced[number], unbalanced[number]
            colour = COLOURS[row["whose"]]
            axes.plot([100 * row["accuracy"], 100 * other["accuracy"]], [place, place], color=colour, alpha=0.4)
            axes.errorbar(100 * row["accuracy"], place, xerr=100 * row["interval"], fmt="o", color=colour, capsize=2)
            axes.plot(100 * other["accuracy"], place, "o", color=colour, markerfacecolor="white")
        names = [f"{balanced[n]['name']}{' *' if balanced[n]['transductive'] else ''}" for n in order]
        axes.set_yticks(range(len(order)), names, fontsize=8)
        axes.set_title(f"5-way {title}")
        axes.set_xlabel("accuracy, %   (* transductive)")
        axes.grid(axis="x", alpha=0.3)
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=who) for who, colour in COLOURS.items()]
    handles += [
        Line2D([], [], marker="o", linestyle="", color="black", label="balanced queries"),
        Line2D([], [], marker="o", linestyle="", color="black", markerfacecolor="white", label="Dirichlet(2) queries"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    write_bytes(path, picture.getvalue())
