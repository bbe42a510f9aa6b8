"""The picture of a table: one panel for each column, a dot for each row."""

from __future__ import annotations

import io
from pathlib import Path

from fewshot_kit.runs.storage import write_bytes

from .page import Done, figure
from .tables import Table

OURS, PLAIN, THEIRS = "#0072b2", "#999999", "#e69f00"  # Okabe and Ito, 2008


def draw(table: Table, done: Done, path: Path) -> None:
    """Means with their intervals; the rows without meta-training in grey, published figures as rings."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    names = [name for name, row in table.rows.items() if any(cell in done for cell in row.cells)][::-1]
    columns = table.columns[:4]
    drawing = Figure(figsize=(3.2 * len(columns) + 1.5, 1.2 + 0.32 * len(names)), layout="constrained")
    for axes, column in zip(drawing.subplots(1, len(columns), squeeze=False, sharey=True)[0], columns, strict=True):
        for place, name in enumerate(names):
            row, value = table.rows[name], figure(done, table.rows[name].cells, column)
            if value is not None:
                scale = 100 if value["measure"] == "accuracy" else 1
                bar = scale * (value["spread"] if value["spread"] is not None else value["interval"])
                colour = PLAIN if name in table.floor.values() else OURS
                axes.errorbar(scale * value["mean"], place, xerr=bar, fmt="o", color=colour, capsize=2)
            if column in row.published:
                axes.plot(float(row.published[column]), place, "o", color=THEIRS, markerfacecolor="none")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(column)
        axes.grid(axis="x", alpha=0.3)
    handles = [Line2D([], [], marker="o", linestyle="", color=OURS, label="this kit")]
    if table.floor:
        handles.append(Line2D([], [], marker="o", linestyle="", color=PLAIN, label="not meta-trained, fine-tuned"))
    if any(row.published for row in table.rows.values()):
        ring = Line2D([], [], marker="o", linestyle="", color=THEIRS, markerfacecolor="none", label="published")
        handles.append(ring)
    drawing.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    picture = io.BytesIO()
    drawing.savefig(picture, dpi=130, format="png")
    write_bytes(path, picture.getvalue())
