"""Time and memory of a meta-batch by the number of classes: drawn on the fly, mapped from a file, held in memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fewshot_kit import datasets
from fewshot_kit.datasets import Split

TASK = {"ways": 5, "shots": 1, "queries": 3, "meta_batch": 16}
DRAWINGS = 4


def measured(kind: str, classes: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Median seconds and grown memory of a meta-batch, in a process of its own."""
    command = [sys.executable, __file__, kind, str(classes), str(rounds), str(folder)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _glyphs(classes: int) -> Split:
    split = datasets.create("glyphs", classes=classes, drawings=DRAWINGS, on_the_fly=True).train
    assert isinstance(split, Split)
    return split


def _stored(classes: int, folder: Path, held: bool) -> Split:
    """Random images in a file, which the system reads in pages as they are asked for; or held, the plain way."""
    path, size = folder / f"{classes}.images", 784 * DRAWINGS * classes
    if not path.exists():
        generator = torch.Generator().manual_seed(0)
        with path.open("wb") as file:
            for start in range(0, size, 2**24):
                part = torch.randint(0, 256, (min(2**24, size - start),), dtype=torch.uint8, generator=generator)
                file.write(part.numpy().data)
    x = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).view(-1, 1, 28, 28)
    x = x.clone() if held else x
    y = torch.arange(classes).repeat_interleave(DRAWINGS)
    return Split(x, y, [str(index) for index in range(classes)], "the mapped file")


def _memory() -> float:
    """Memory of this process alone, in MB: not the pages of mapped files, which the system takes back when it wants."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024


def main(kind: str, classes: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Time meta-batches of a split with so many classes."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    split = _glyphs(classes) if kind == "glyphs" else _stored(classes, folder, kind == "held")
    made, before = time.perf_counter() - started, _memory()
    generator, seconds = torch.Generator().manual_seed(0), []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        split.episodes(**TASK, generator=generator)
        seconds.append(time.perf_counter() - started)
    return {
        "kind": kind,
        "classes": classes,
        "seconds": statistics.median(seconds[1:]),
        "made": made,
        "index_mb": before,
        "grown_mb": _memory() - before,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
