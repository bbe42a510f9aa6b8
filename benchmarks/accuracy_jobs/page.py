"""The page of a table, from the JSON of its cells alone."""

from __future__ import annotations

import math
import statistics
from typing import Any

from .tables import Table

Done = dict[str, list[dict[str, Any]]]  # name of a cell -> what `cell.run` gave, one for each seed
OTHERS = {
    "inductive": "The same, inductive: batch norm by the support set where it would be by the queries, so that no "
    "query depends on another.",
    "transductive": "The same, transductive: batch norm by all queries of a task together, as in MAML's paper.",
}


def figure(done: Done, cells: tuple[str, ...], column: str, policy: str = "own") -> dict[str, Any] | None:
    """The mean over training seeds, their spread, and the interval over episodes, of the cell that has this column."""
    tested = [one["figures"][column] for name in cells for one in done.get(name, []) if column in one["figures"]]
    found = [one[policy] for one in tested if policy in one]
    if not found:
        return None
    measure = "accuracy" if "accuracy" in found[0] else "mse"
    values = [one[measure] for one in found]
    return {
        "measure": measure,
        "mean": statistics.fmean(values),
        "interval": statistics.fmean(one["interval"] for one in found),
        "deviation": statistics.fmean(one["interval"] * math.sqrt(one["episodes"]) / 1.96 for one in found),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": len(values),
        "policy": found[0]["batch_norm"],
    }


def shown(value: dict[str, Any] | None, deviation: bool = False) -> str:
    """A figure as the pages show it: mean and interval over episodes, their deviation where that is asked for, and in
    brackets the seeds and their spread.
    """
    if value is None:
        return "not run"
    scale, digits = (100, 2) if value["measure"] == "accuracy" else (1, 3)
    text = f"**{scale * value['mean']:.{digits}f}** ± {scale * value['interval']:.{digits}f}"
    text += f", sd {scale * value['deviation']:.{digits}f}" * deviation
    if value["spread"] is None:
        return f"{text} (1 seed)"
    return f"{text} ({value['seeds']} seeds ± {scale * value['spread']:.{digits}f})"


def grid(table: Table, done: Done, policy: str = "own") -> list[str]:
    """The rows as lines of Markdown."""
    published = any(row.published for row in table.rows.values())
    lines = [f"| | {' | '.join(table.columns)} |{' published |' * published}"]
    lines.append(f"|---|{'---|' * len(table.columns)}{'---|' * published}")
    for name, row in table.rows.items():
        figures = [shown(figure(done, row.cells, column, policy), row.deviation) for column in table.columns]
        told = " / ".join(row.published.get(column, "-") for column in table.columns) if row.published else ""
        lines.append(f"| {name} | {' | '.join(figures)} |{f' {told} |' * published}")
    return lines


def page(name: str, table: Table, done: Done) -> str:
    """The whole page."""
    episodes = next(iter(table.cells.values())).episodes
    lines = [
        f"# {table.title}",
        "",
        f"Written by `python benchmarks/accuracy.py --table {name}`; every figure is read from the JSON files beside",
        f"this. Mean over {episodes:,} test episodes ± half the width of their 95% interval. In brackets is how many",
        "seeds were trained, and the standard deviation of their means: a seed decides the split, the weights and the",
        "episodes.",
        "",
        *_of_a_subset(done),
        table.says,
        table.published,
        "",
        *grid(table, done),
    ]
    for policy, told in OTHERS.items():
        if any(one.get(policy, one["own"]) != one["own"] for one in _figures(done)):
            lines += ["", told, "", *grid(table, done, policy)]
    lines += ["", "![The figures](figures.png)", "", "## How each was trained", "", *_recipes(done)]
    return "\n".join([*lines, ""])


def _of_a_subset(done: Done) -> list[str]:
    """Where a data set says of itself that it is not all there."""
    names = {one["data"] for cells in done.values() for one in cells if "subset" in one.get("data", "")}
    return [f"**Figures of a part of the data: {name}.**" for name in sorted(names)]


def _figures(done: Done) -> list[dict[str, Any]]:
    return [one for cell in done.values() for each in cell for one in each["figures"].values()]


def _recipes(done: Done) -> list[str]:
    lines = ["| cell | seeds | recipe | minutes of training | machine | code |", "|---|---|---|---|---|---|"]
    for name, cells in done.items():
        first = cells[0]
        settings = first["settings"]
        told = f"{settings['iterations']} x {settings['meta_batch']}, meta_lr {settings['meta_lr']:g}"
        told += f", {_options(settings['algorithm_options'])}" if settings.get("algorithm_options") else ""
        told += f"; tested with {_options(settings['test_options'])}" if settings.get("test_options") else ""
        told += f"; chosen: {_options(first['chosen'])}" if first["chosen"] else ""
        if first["start"]:
            start = first["start"]
            told += f"; from {start['algorithm']}, {start['iterations']} x {start['meta_batch']}"
        seconds = [sum(one["seconds"].get(part, 0) for part in ("start", "training")) for one in cells]
        whole = ["start" in one["seconds"] or not one["start"] for one in cells]
        minutes = ", ".join(f"{each / 60:.0f}{'' if all_ else '+'}" for each, all_ in zip(seconds, whole, strict=True))
        machine = first["machine"]
        lines.append(
            f"| {name} | {', '.join(str(one['seed']) for one in cells)} | {told} | {minutes} | "
            f"{machine['processor']}, {machine['threads']} thread | {first['code']} |"
        )
    return [*lines, "", "A `+`: what the run started from had been trained already, for another cell."]


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())
