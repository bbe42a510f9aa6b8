"""Runs a job and gives its section of `results.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fewshot_kit.runs.storage import write_bytes

from . import contest, machine, memory
from .jobs import Job
from .settings import Settings

Section = dict[str, Any]


def section(name: str, job: Job, settings: Settings, rate: float) -> Section:
    """Everything that was measured of a job, and on what.

    Args:
        rate: FLOP per second that the machine reaches.
    """
    head = {"title": job.title, "rounds": settings.rounds, "machine": machine.describe(settings.device), "matmul": rate}
    if job.axes is not None:
        return {**head, "axes": {axis: _points(contests(settings), settings) for axis, contests in job.axes.items()}}
    assert job.contest is not None, f"{name} has neither a contest nor axes"
    entered = job.contest(settings)
    found = contest.run(entered, settings.rounds, settings.device)
    if job.memory:
        for contestant in entered.contestants:
            unseen = contestant.library == "jax" and settings.device.type == "cuda"  # an allocator of its own
            if found[contestant.name].get("seconds") and not unseen:
                found[contestant.name]["memory"] = memory.of(name, contestant.name, settings)
    flop = entered.flop() if entered.flop is not None else None
    arithmetic = {} if flop is None else {"flop": flop, "limit": flop / rate}
    return {**head, "about": entered.about, "tasks": entered.tasks, **arithmetic, "contestants": found}


def _points(contests: Any, settings: Settings) -> list[Section]:
    return [
        {"value": value, "contestants": contest.run(entered, settings.rounds, settings.device)}
        for value, entered in contests
    ]


def keep(path: Path, results: dict[str, Section]) -> None:
    """Write the results: numbers to six digits, which is more than any clock here can tell."""
    write_bytes(path, (json.dumps(_rounded(results), indent=1) + "\n").encode())


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
