"""Memory and time against inner steps: `python benchmarks/inner_steps.py`, some minutes of a core.

MAML on one task, with the graph of all steps, with steps that are computed again (`checkpoint=True`), and with the last
steps alone (`truncate`). Every cell is a process of its own, and the page is made of the JSON file alone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from speed_jobs import machine

from fewshot_kit import algorithms, engines, models
from fewshot_kit.episodes import Episode
from fewshot_kit.runs.storage import write_bytes

RESULTS = Path(__file__).parent / "results" / "inner_steps"
STEPS = (1, 5, 10, 20, 40)
WAYS: dict[str, dict[str, Any]] = {
    "all steps": {},
    "checkpoint=True": {"checkpoint": True},
    "truncate=5": {"truncate": 5},
    "both": {"checkpoint": True, "truncate": 5},
    "first_order=True": {"first_order": True},
}


def prepared(way: str, steps: int, size: int) -> Callable[[], float]:
    """A meta-gradient of one task, warmed up with one step; the call returns the gradient's length."""
    model = models.create("conv4", ways=5, hidden=64, image_size=size, downsample="pool", seed=0)
    algorithm = algorithms.create("maml", model=model, lr=0.05, **WAYS[way])
    generator = torch.Generator().manual_seed(0)
    x, queries = (torch.rand(1, 5 * shots, 1, size, size, generator=generator) for shots in (1, 5))
    episode = Episode(x, torch.arange(5)[None], queries, torch.arange(5).repeat(1, 5))
    choice = engines.Choice("loop", workers=1)

    def call() -> float:
        algorithm.zero_grad()
        engines.meta_backward(algorithm, episode, choice)
        return float(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm())

    call()
    algorithm.steps = steps
    return call


def memory_of(way: str, steps: int, size: int) -> dict[str, float]:
    """The MB that the call takes beyond everything loaded, and the gradient's length."""
    call = prepared(way, steps, size)
    with contextlib.suppress(OSError, AttributeError):  # glibc keeps what was freed, which would hide what is taken
        ctypes.CDLL(None).malloc_trim(0)
    memory = machine.Memory(torch.device("cpu"))
    gradient = call()
    return {"megabytes": memory.peak() - memory.baseline, "gradient": gradient}


def times_of(steps: int, size: int, rounds: int) -> dict[str, list[float]]:
    """The seconds of every way in each round, one after another, so that a busy minute meets all of them."""
    calls = {way: prepared(way, steps, size) for way in WAYS}
    turns = [{way: machine.stopwatch(call, torch.device("cpu")) for way, call in calls.items()} for _ in range(rounds)]
    return {way: [turn[way] for turn in turns] for way in WAYS}


def page(results: dict[str, Any]) -> str:
    """The table: MB and, in brackets, the time as a multiple of that with all steps kept."""
    cells, steps = results["cells"], [str(step) for step in results["steps"]]
    who = results["machine"]
    lines = [
        "# Memory and time against inner steps",
        "",
        "Written by `python benchmarks/inner_steps.py`; every figure is read from `results.json` beside this. One",
        "meta-gradient of MAML, conv4 with 64 channels and max-pools, one task of images of",
        f"{results['size']} x {results['size']}, 5-way 1-shot with 5 queries, by the loop on one thread: the peak of",
        "resident memory beyond what was taken before the call, and the time as a multiple of that with all steps kept",
        "(the median over rounds in turns).",
        "",
        f"{who['processor']}, torch {who['versions']['torch']}, {who['date']}, load {who['load']}.",
        "",
        f"| steps | {' | '.join(steps)} |",
        f"|---|{'---|' * len(steps)}",
    ]
    for way, row in cells.items():
        told = []
        for step in steps:
            pairs = zip(row[step]["seconds"], cells["all steps"][step]["seconds"], strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            told.append(f"{row[step]['megabytes']:.0f} MB ({ratio:.2f}x)")
        lines.append(f"| {way} | {' | '.join(told)} |")
    seconds = [f"{min(cells['all steps'][step]['seconds']):.2f} s" for step in steps]
    return "\n".join([*lines, f"| least time with all steps kept | {' | '.join(seconds)} |", ""])


def main(argv: list[str] | None = None) -> int:
    """Measure every cell in a process of its own, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=28, help="sides of the images (default: 28)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of timed calls (default: 7)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    parser.add_argument(
        "--cell", nargs=2, metavar=("WAY", "STEPS"), help="measure this one's memory alone, and print it"
    )
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.cell:
        way, steps = arguments.cell
        print(json.dumps(memory_of(way, int(steps), arguments.size)))
        return 0
    cells: dict[str, dict[str, Any]] = {way: {} for way in WAYS}
    for steps in arguments.steps:
        times = times_of(steps, arguments.size, arguments.rounds)
        for way in WAYS:
            command = [sys.executable, __file__, "--cell", way, str(steps), "--size", str(arguments.size)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            cells[way][str(steps)] = json.loads(done.stdout) | {"seconds": times[way]}
    about = {"machine": machine.describe(torch.device("cpu")), "size": arguments.size, "rounds": arguments.rounds}
    results = about | {"steps": list(arguments.steps), "cells": cells}
    write_bytes(arguments.results / "results.json", json.dumps(results, indent=1).encode())
    write_bytes(arguments.results / "README.md", page(results).encode())
    print(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
