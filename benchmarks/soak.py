"""Attacks what the kit writes and reads: `make soak`, or `python benchmarks/soak.py`, a quarter of an hour of a core.

It kills processes at random and in the middle of writing, damages every file that the kit writes, and reads the files
of tests/hostile.py. It writes `results/soak.json` and a table of it, and fails if anything was lost or let in.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from soak_jobs.damage import damage
from soak_jobs.kills import kills
from soak_jobs.malice import malice
from speed_jobs.machine import describe

from fewshot_kit.runs.storage import write_bytes

RESULTS = Path(__file__).parent / "results"
BAD = ("lost", "wrongly accepted", "crashed")
TITLES = {
    "kills": "Processes killed",
    "damage": "Files that the kit wrote, with a byte changed or the end cut off",
    "malice": "Files that somebody else made",
}


def attacked(count: int, damages: int, seed: int) -> dict[str, Any]:
    """All attacks, and how long they took."""
    torch.set_num_threads(1)  # processes are forked, which threads do not survive
    dice, started = random.Random(seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder) / name for name in TITLES}
        for place in places.values():
            place.mkdir()
        found = {
            "kills": kills(count, dice, places["kills"]),
            "damage": damage(damages, dice, places["damage"]),
            "malice": malice(places["malice"]),
        }
    machine = describe(torch.device("cpu")) | {"date": datetime.datetime.now(datetime.timezone.utc).date().isoformat()}
    command = f"python benchmarks/soak.py --kills {count} --damages {damages} --seed {seed}"
    return {"command": command, "machine": machine, "seconds": round(time.perf_counter() - started), **found}


def page(found: dict[str, Any]) -> str:
    """The tables, as Markdown."""
    lines = [
        "# What was attacked, and what was lost",
        "",
        f"Written by `{found['command']}`, {found['machine']['date']}.",
    ]
    for name, title in TITLES.items():
        columns = list(found[name][0])
        lines += ["", f"## {title}", "", f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        lines += [f"| {' | '.join(str(row[column]) for column in columns)} |" for row in found[name]]
    return "\n".join([*lines, ""])


def bad(found: dict[str, Any]) -> int:
    """How often something was lost, wrongly accepted, or crashed."""
    return sum(row.get(name, 0) for part in TITLES for row in found[part] for name in BAD)


def main(argv: list[str] | None = None) -> int:
    """Attack, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="processes to kill (default: 100)")
    parser.add_argument("--damages", type=int, default=60, help="damages of each file (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="decides when and where (default: 0)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results go")
    arguments = parser.parse_args(argv)
    found = attacked(arguments.kills, arguments.damages, arguments.seed)
    write_bytes(arguments.out / "soak.json", json.dumps(found, indent=1).encode())
    write_bytes(arguments.out / "soak.md", page(found).encode())
    print(page(found))
    return 1 if bad(found) else 0


if __name__ == "__main__":
    sys.exit(main())
