"""The page: every figure on it is read from `results.json`."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any

from .jobs import Goal, Job

ENOUGH_ROUNDS = 7
Section = dict[str, Any]

NOTES = """## How it was measured

- Same weights, same tasks, same process. Everybody is run in turns, one timed call each a round, every round beginning
  with another one; calls shorter than 20 ms are repeated until they fill that, and divided. Garbage is collected before
  each timed call. Who takes longer than 40 s in all has fewer rounds, three at least; the tables say how many.
- Before a contestant is timed, its meta-gradient is compared with learn2learn's, in float64 (rounding flips near-tied
  ReLUs and max-pools, so that float32 is no fair test) and on the job's first tasks. Who is further away than 1e-9, in
  terms of the gradient's length, is not in the table. Evaluation compares the mean loss.
- *ready*: getting ready; for `kit, auto` this is measuring the engines and choosing one. *first call*: the first timed
  call. *compiling*: what both take longer than the median, of those that compile; nothing was compiled before.
- *peak memory*: of a process of its own that does one call (on a GPU: allocated on the card), and how much of it is
  above what everything loaded takes before the first call. `kit, auto` includes the measuring of the engines.
- *limit*: the floating-point operations of the matrix products and convolutions in learn2learn's call, at the rate that
  this machine reaches in a large float32 matrix product. Nothing is gained below it without a cheaper algorithm.
- On a GPU, float32 means float32: TF32 is switched off for everybody.
"""


def page(results: dict[str, Section], jobs: dict[str, Job], charts: Iterable[str] = ()) -> str:
    """The Markdown page of all jobs that have been run."""
    done = {name: results[name] for name in jobs if name in results}
    lines = [
        "# Speed: the kit against its peers",
        "",
        "Written by `python benchmarks/speed.py`; every figure is read from `results.json` beside this.",
        "Ratios are the peer's time over the kit's in the same run; *at least* and *to aim for* are the project's own",
        "goals, held against the medians.",
        "",
        *_machines(done),
        "",
        *_summary(done, jobs),
        "",
        *(f"![{name.removesuffix('.png').replace('-', ' ')}]({name})\n" for name in charts),
    ]
    for name, section in done.items():
        lines += _details(name, jobs[name], section)
    return "\n".join([*lines, NOTES])


def figures(job: Job, section: Section, goal: Goal) -> tuple[float, float] | None:
    """Ratio by medians and by minima for a goal; None where somebody has no figure."""
    names = (goal.contestant,) if goal.measure == "limit" else (goal.against, goal.contestant)
    found = [section["contestants"].get(name, {}) for name in names]
    if goal.measure == "memory":
        peaks = [one.get("memory", {}).get("peak") for one in found]
        return (peaks[0] / peaks[1],) * 2 if all(peaks) else None
    if not all(one.get("seconds") for one in found):
        return None
    pairs = [(statistics.median(one["seconds"]), min(one["seconds"])) for one in found]
    if goal.measure == "limit":
        return section["limit"] / pairs[0][0], section["limit"] / pairs[0][1]
    return pairs[0][0] / pairs[1][0], pairs[0][1] / pairs[1][1]


def goals_of(job: Job, section: Section) -> tuple[Goal, ...]:
    """The goals on the device that the section was measured on."""
    if section["machine"]["device"] == "cpu":
        return job.goals
    return job.gpu_goals or tuple(dataclasses.replace(goal, at_least=None, aim=None) for goal in job.goals)


def duration(seconds: float | None) -> str:
    """Seconds in three digits and a unit."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds / 1e-6)} us"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _ratio(value: float) -> str:
    return f"{_digits(value)}x"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table(columns: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [_row(columns), f"|{'---|' * len(columns)}", *map(_row, rows)]


def _machines(done: dict[str, Section]) -> list[str]:
    """One line for every machine and day; jobs can be run again one by one."""
    runs: dict[str, list[str]] = {}
    for name, section in done.items():
        machine = section["machine"]
        versions = ", ".join(f"{library} {version}" for library, version in machine["versions"].items())
        device = "" if machine["device"] == "cpu" else f"{machine['device']}, "
        said = (
            f"{device}{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads; Python "
            f"{machine['python']}, {versions}; {machine['date'].split()[0]}; `{section['command']}`"
        )
        runs.setdefault(said, []).append(name)
    if len(runs) == 1:
        return [f"Machine: {said}." for said in runs]
    return [f"- {', '.join(names)}: {said}." for said, names in runs.items()]


def _summary(done: dict[str, Section], jobs: dict[str, Job]) -> list[str]:
    columns = ["job", "who", "against", "time", "its time", "ratio, medians", "ratio, minima"]
    columns += ["at least", "to aim for", "reached", "limit"]
    rows = []
    for name, section in done.items():
        for goal in goals_of(jobs[name], section):
            rows.append(_goal_row(jobs[name], section, goal))
    return _table(columns, rows)


def _goal_row(job: Job, section: Section, goal: Goal) -> list[str]:
    found, contestants = figures(job, section, goal), section["contestants"]
    what = {"time": "", "memory": ", peak memory", "limit": ", share of the limit"}[goal.measure]
    against = "the machine" if goal.measure == "limit" else goal.against
    row = [job.title + what, goal.contestant, against]
    if found is None:
        return [*row, "", "", "not measured", "", _wanted(goal.at_least), _wanted(goal.aim), "", ""]
    mine, its = contestants[goal.contestant], contestants.get(goal.against, {})
    if goal.measure == "memory":
        row += [f"{mine['memory']['peak']:.0f} MB", f"{its['memory']['peak']:.0f} MB"]
    else:
        its_time = section["limit"] if goal.measure == "limit" else statistics.median(its["seconds"])
        row += [duration(statistics.median(mine["seconds"])), duration(its_time)]
    row += [_ratio(found[0]), _ratio(found[1]), _wanted(goal.at_least), _wanted(goal.aim), _mark(goal, found[0])]
    return [*row, duration(section.get("limit"))]


def _wanted(value: float | None) -> str:
    return "" if value is None else f"{value:g}x"


def _mark(goal: Goal, ratio: float) -> str:
    if goal.at_least is None and goal.aim is None:
        return ""
    if goal.aim is not None and ratio >= goal.aim:
        return "yes, and the aim"
    return "yes" if goal.at_least is not None and ratio >= goal.at_least else "**no**"


def _details(name: str, job: Job, section: Section) -> list[str]:
    lines = [f"## {job.title} (`{name}`)", "", section.get("about", ""), ""]
    if section["rounds"] < ENOUGH_ROUNDS:
        lines += [f"**Only {section['rounds']} rounds: a trial, not for publication.**", ""]
    if "axes" in section:
        return lines + _growth(section)
    said = f"Load average at the start: {section['machine']['load']}."
    if section.get("flop"):
        rate = f"{section['matmul'] / 1e9:.0f} GFLOP/s"
        said = f"{section['flop'] / 1e9:.3g} GFLOP a call; at {rate} that is {duration(section['limit'])}. {said}"
    lines += [said, ""]
    columns = ["", "median", "minimum", "rounds", "ratio, medians", "ratio, minima", "tasks/s", "of the limit"]
    columns += ["ready", "first call", "compiling", "peak memory (above start)", "deviation"]
    timed = {who: one for who, one in section["contestants"].items() if one.get("seconds")}
    lines += _table(columns, [_contestant(who, one, timed, section) for who, one in timed.items()])
    left = [
        f"{who} ({one.get('absent') or one.get('refused')})"
        for who, one in section["contestants"].items()
        if who not in timed
    ]
    return [*lines, "", *([f"Left out: {'; '.join(left)}.", ""] if left else [])]


def _contestant(who: str, one: Section, timed: dict[str, Section], section: Section) -> list[str]:
    median, minimum = statistics.median(one["seconds"]), min(one["seconds"])
    first = next(iter(timed.values()))["seconds"]
    memory, deviation, limit = one.get("memory"), one.get("deviation"), section.get("limit")
    return [
        who if not one.get("note") or who.endswith(one["note"]) else f"{who} ({one['note']})",
        duration(median),
        duration(minimum),
        str(len(one["seconds"])),
        _ratio(statistics.median(first) / median),
        _ratio(min(first) / minimum),
        f"{section['tasks'] / median:.4g}",
        f"{limit / median:.0%}" if limit else "",
        duration(one["prepare"]),
        duration(one["first"]),
        duration(one.get("compile")),
        f"{memory['peak']:.0f} MB ({memory['peak'] - memory['baseline']:.0f})" if memory else "",
        "" if deviation is None else f"{deviation:.0e}",
    ]


def _growth(section: Section) -> list[str]:
    lines = []
    for axis, points in section["axes"].items():
        names = list(points[0]["contestants"])
        rows = []
        for point in points:
            timed = [point["contestants"][name].get("seconds") for name in names]
            medians = [statistics.median(seconds) if seconds else None for seconds in timed]
            ratio = medians[0] / medians[-1] if medians[0] and medians[-1] else None
            notes = point["contestants"][names[-1]].get("note", "")
            rows.append([str(point["value"]), *map(duration, medians), _ratio(ratio) if ratio else "", notes])
        lines += [*_table([axis, *names, "ratio, medians", "engine"], rows), ""]
    return lines
