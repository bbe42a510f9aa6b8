"""Regenerates the speed tables: `python benchmarks/speed.py`, or some jobs only: `... speed.py conv4_1 data`.

Every job is a section of `results.json`, written as soon as it is done; the page and the pictures are made of that
file alone, so that one job can be run again, and the page rebuilt without running anything (`--page`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from speed_jobs import charts, machine, runner
from speed_jobs.jobs import JOBS
from speed_jobs.report import page
from speed_jobs.settings import Settings

from fewshot_kit.errors import InputError, KitError
from fewshot_kit.modules.place import find_device
from fewshot_kit.runs.storage import write_bytes

HERE = Path(__file__).parent
RESULTS = "results.json"
COMPILED = "TORCHINDUCTOR_CACHE_DIR"


def main(argv: list[str] | None = None) -> int:
    """Run the jobs, and write the page."""
    parser = argparse.ArgumentParser(description="Regenerates the speed tables.")
    parser.add_argument("jobs", nargs="*", metavar="JOB", help=f"some of {', '.join(JOBS)}; default: all")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of everybody (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument("--root", help="folder of the data sets (default: as everywhere in the kit)")
    parser.add_argument("--out", type=Path, help="where results go (default: benchmarks/results/speed, or speed-cuda)")
    parser.add_argument("--page", action="store_true", help="run nothing: rebuild the page from results.json")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.jobs if name not in JOBS]
    if unknown:
        parser.error(f"unknown job {unknown[0]}; the jobs are {', '.join(JOBS)}")
    if arguments.rounds < 1:
        parser.error(f"--rounds is {arguments.rounds}; it must be at least 1, and 7 to be published")
    try:
        settings = Settings(find_device(arguments.device), arguments.root, arguments.rounds)
        folder = arguments.out or HERE / "results" / ("speed-cuda" if settings.device.type == "cuda" else "speed")
        if not arguments.page:
            run(arguments.jobs or list(JOBS), settings, folder)
        print(write_page(folder))
    except KitError as error:
        print(f"speed.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("speed.py: interrupted. The jobs that were done are in results.json.", file=sys.stderr)
        return 130
    return 0


def run(names: list[str], settings: Settings, folder: Path) -> None:
    """Run these jobs, one after the other, and keep each as soon as it is done."""
    torch.backends.cudnn.allow_tf32 = False  # as everywhere else in PyTorch, and for JAX too
    with _nothing_compiled():
        rate = machine.matmul_rate(settings.device)
        for name in names:
            print(f"{name}: {JOBS[name].title}", file=sys.stderr, flush=True)
            started = time.perf_counter()
            section = runner.section(name, JOBS[name], settings, rate)
            section["took"] = time.perf_counter() - started
            section["command"] = f"python benchmarks/speed.py --rounds {settings.rounds} --device {settings.device}"
            runner.keep(folder / RESULTS, {**read(folder), name: section})
            print(f"  took {section['took']:.0f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Compiling starts from nothing, so that its column shows what it costs; the memory processes find it done."""
    before = os.environ.get(COMPILED)
    with tempfile.TemporaryDirectory(prefix="speed-compiled-") as cache:
        os.environ[COMPILED] = cache
        try:
            yield
        finally:
            del os.environ[COMPILED]
            os.environ |= {} if before is None else {COMPILED: before}


def read(folder: Path) -> dict[str, Any]:
    """The sections that were kept, by job."""
    path = folder / RESULTS
    return json.loads(path.read_text()) if path.exists() else {}


def write_page(folder: Path) -> str:
    """Make the page and the pictures of what is in `results.json`."""
    results = read(folder)
    if not results:
        raise InputError(f"There is no {RESULTS} in {folder}; run some jobs first.")
    charts.draw_all(results, JOBS, folder)
    text = page(results, JOBS, charts.names(results, JOBS))
    write_bytes(folder / "README.md", text.encode())
    return text


if __name__ == "__main__":
    sys.exit(main())
