"""What several processes and many classes take: `python benchmarks/scaling.py`, ten minutes; the machine must be quiet.

It writes `results/scaling/results.json` and the page beside it, which is made of that file alone (`--page`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from scaling_jobs import classes, shared
from speed_jobs.machine import describe

from fewshot_kit.runs.storage import write_bytes

HERE = Path(__file__).parent
FOLDER = HERE / "results" / "scaling"
CLASSES = (1_000, 10_000, 100_000, 1_000_000)
GPUS = (8, 64, 512)
# Links between machines, which were not measured here: seconds a message and seconds a byte.
ASSUMED = {
    "100 Gbit/s, 20 µs (assumed)": shared.Link(4e-5, 2 / 12.5e9),
    "10 Gbit/s, 50 µs (assumed)": shared.Link(1e-4, 2 / 1.25e9),
}
GPU_TASK = 1e-3  # seconds of a task on a GPU, assumed


def measured(cores: int, meta_batch: int, rounds: int) -> dict[str, Any]:
    """All measurements, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        steps = [shared.measured(*each, meta_batch, rounds, Path(folder)) for each in ((1, 1), (1, cores), (cores, 1))]
        many = [
            classes.measured(kind, count, 4 * rounds, Path(folder))
            for kind in ("glyphs", "mapped", "held")
            for count in CLASSES
        ]
    return {"machine": describe(torch.device("cpu")), "rounds": rounds, "steps": steps, "classes": many}


def page(found: dict[str, Any]) -> str:
    """The tables, from the measurements alone."""
    return "\n".join([*_head(found["machine"]), *_steps(found["steps"]), *_projection(found), *_many(found["classes"])])


def _head(machine: dict[str, Any]) -> list[str]:
    return [
        "# Several processes, many classes",
        "",
        "Written by `python benchmarks/scaling.py`; every figure is read or computed from results.json. Medians.",
        f"{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}, {machine['date']}.",
        "",
    ]


def _steps(steps: list[dict[str, Any]]) -> list[str]:
    one = steps[0]
    lines = [
        f"## One meta-update on this machine: MAML on conv4, 5 ways, 1 shot, {one['meta_batch']} tasks",
        "",
        "| processes | threads of each | the kit | learn2learn | kit faster by | kit's speed-up | learn2learn's |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in steps:
        kit, peer = (one[name] / step[name] for name in ("step", "learn2learn"))
        times = f"{1e3 * step['step']:.0f} ms | {1e3 * step['learn2learn']:.0f} ms"
        ratio = step["learn2learn"] / step["step"]
        lines.append(f"| {step['processes']} | {step['threads']} | {times} | {ratio:.2f}x | {kit:.2f}x | {peer:.2f}x |")
    sent = [f"{size / 1024:.0f} kB in {1e3 * seconds:.2f} ms" for size, seconds in steps[-1].get("link", [])]
    return [
        *lines,
        "",
        "learn2learn's is its own loop on the same tasks, with an all-reduce of each parameter's gradient. One process "
        "with several threads is what the kit does by itself, without any of this.",
        "",
        f"It sends {one['bytes'] / 1e6:.2f} MB: gradients, and the moves of buffers. An all-reduce between "
        f"{steps[-1]['processes']} processes of this machine takes: {', '.join(sent)}.",
        "",
    ]


def _projection(found: dict[str, Any]) -> list[str]:
    one, two = found["steps"][0], found["steps"][-1]
    each = one["meta_batch"]
    links = {"between processes of this machine (measured)": shared.Link.fitted(two["link"])} | ASSUMED
    seconds = {"this CPU core (measured)": one["gradients"] / each, "a GPU of 1 ms a task (assumed)": GPU_TASK}
    lines = [
        f"## Projection: {each} tasks on every process",
        "",
        "This was not run. It is computed from what one process was measured to take (gradients, the rest of a "
        "meta-update, the draws of all tasks, which every process makes beside the gradients) and a ring's all-reduce: "
        "2 (N - 1) messages of an N-th of the bytes. Efficiency is against one process with as many tasks.",
        "",
        f"| gradients on | link | {' | '.join(f'{count} processes' for count in GPUS)} |",
        f"|---|---|{'---|' * len(GPUS)}",
    ]
    for where, task in seconds.items():
        for link, costs in links.items():
            cells = [shared.projected(one, costs, count, each, task) for count in GPUS]
            told = [f"{1e3 * cell['step']:.0f} ms, {100 * cell['efficiency']:.0f} %" for cell in cells]
            lines.append(f"| {where} | {link} | {' | '.join(told)} |")
    return [*lines, ""]


def _many(rows: list[dict[str, Any]]) -> list[str]:
    task = classes.TASK
    names = {"glyphs": "glyphs, drawn on the fly", "mapped": "a memory-mapped file", "held": "held in memory"}
    lines = [
        f"## A meta-batch by the number of classes: {task['meta_batch']} tasks, {task['ways']} ways, "
        f"{task['shots']} shot, {task['queries']} queries a class",
        "",
        "| images | classes | a meta-batch | memory that meta-batches add | memory of the index |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {names[row['kind']]} | {row['classes']:,} | {1e3 * row['seconds']:.1f} ms | "
            f"{max(0, row['grown_mb']):.0f} MB | {row['index_mb']:.0f} MB |"
        )
    return [*lines, "", "The memory of the index is all of the process's own, PyTorch's included.", ""]


def main(argv: list[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2, help="processes, or threads of one (default: 2)")
    parser.add_argument("--meta-batch", type=int, default=32, help="tasks of a meta-update (default: 32)")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls (default: 15)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where results go")
    parser.add_argument("--page", action="store_true", help="run nothing: write the page from results.json")
    arguments = parser.parse_args(argv)
    path = arguments.out / "results.json"
    if not arguments.page:
        found = measured(arguments.cores, arguments.meta_batch, arguments.rounds)
        write_bytes(path, json.dumps(found, indent=1).encode())
    text = page(json.loads(path.read_text()))
    write_bytes(arguments.out / "README.md", text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
