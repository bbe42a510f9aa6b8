"""2D navigation with several seeds: `python benchmarks/navigation_seeds.py --seeds 0 1 2`, ten minutes of a core each.

Every seed is a run of examples/rl_navigation.py, of which the JSON is kept; one that is there is not run again. The
page is made of the JSON files alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from speed_jobs.machine import describe

from fewshot_kit.runs.storage import write_bytes

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "navigation"


def run(seed: int, more: list[str]) -> dict[str, Any]:
    """What the example writes down of this seed, and the machine."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ["--seed", str(seed), "--out", folder, *more]
        subprocess.run([sys.executable, HERE.parent / "examples" / "rl_navigation.py", *asked], check=True)
        found: dict[str, Any] = json.loads((Path(folder) / "returns.json").read_text())
    found.pop("out")
    return found | {"machine": describe(torch.device("cpu"))}


def page(runs: list[dict[str, Any]]) -> str:
    """The table, a line for each seed, and their mean."""
    steps = range(len(runs[0]["returns"]))
    settings = ", ".join(f"{name} {runs[0][name]}" for name in ("iterations", "tasks", "trajectories", "lr"))
    lines = [
        "# 2D navigation",
        "",
        "Written by `python benchmarks/navigation_seeds.py`; every figure is read from the JSON files. Mean",
        f"return over 40 new goals ± half the width of its 95% interval, MAML with TRPO ({settings}).",
        "",
        f"| | {' | '.join(f'{step} steps' for step in steps)} | minutes | machine |",
        f"|---|{'---|' * (len(steps) + 2)}",
    ]
    for one in runs:
        figures = [f"{mean:.2f} ± {half:.2f}" for mean, half in zip(one["returns"], one["intervals"], strict=True)]
        machine = f"{one['machine']['processor']}, {one['machine']['threads']} threads"
        lines.append(f"| seed {one['seed']} | {' | '.join(figures)} | {one['seconds'] / 60:.0f} | {machine} |")
    columns = list(zip(*(one["returns"] for one in runs), strict=True))
    if len(runs) > 1:
        told = [f"**{statistics.fmean(each):.2f}** (± {statistics.stdev(each):.2f})" for each in columns]
        lines.append(f"| mean of {len(runs)} seeds (their standard deviation) | {' | '.join(told)} | | |")
    published = " | ".join(f"{each:.2f}" for each in runs[0]["published"])
    return "\n".join([*lines, f"| published (MAML) | {published} | | |", ""])


def main(argv: list[str] | None = None) -> int:
    """Run the seeds that are not there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="(default: 0)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    arguments, more = parser.parse_known_args(argv)  # the rest goes to the example
    for seed in arguments.seeds:
        path = arguments.results / f"{seed}.json"
        if not path.exists():
            write_bytes(path, json.dumps(run(seed, more), indent=1).encode())
    runs = [json.loads(path.read_text()) for path in sorted(arguments.results.glob("*.json"))]
    write_bytes(arguments.results / "README.md", page(runs).encode())
    print(page(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
