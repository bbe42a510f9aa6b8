"""What the tests of the command line share: the smallest run, and a call that gives back all that a user sees."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewshot_kit.cli.parser import main

GLYPHS = "--dataset glyphs --dataset-options classes=30 drawings=6 image_size=14"
BUDGET = (
    "--iterations 2 --meta-batch 2 --validate-every 1 --validation-episodes 3 --test-episodes 4 "
    "--queries 2 --test-queries 2 --engine loop"
)
TINY = f"{GLYPHS} --model conv4 --model-options hidden=4 {BUDGET}"


@dataclass
class Said:
    """Exit status, stdout and stderr of one command."""

    status: int
    out: str
    err: str


class CommandLine:
    """`cli("train ...")` in this process."""

    def __init__(self, capture: Any) -> None:
        self.capture = capture

    def __call__(self, line: str) -> Said:
        self.capture.readouterr()
        status = main(shlex.split(line))
        return Said(status, *self.capture.readouterr())

    def good(self, line: str) -> str:
        """Stdout of a command that has to succeed."""
        said = self(line)
        assert said.status == 0, said.err
        return said.out

    def refused(self, line: str) -> str:
        """The one sentence of a command that has to be refused: on stderr, and nothing else anywhere."""
        said = self(line)
        assert said.status == 2 and said.out == ""
        assert said.err.startswith("fewshot-kit: ") and said.err.endswith("\n") and "Traceback" not in said.err
        lines = said.err.strip().splitlines()
        assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("Available: "))
        return said.err.strip().removeprefix("fewshot-kit: ")


def write_images(folder: Path, classes: dict[str, int], size: tuple[int, int] = (20, 20)) -> None:
    """Class folders of PNGs: class k is a dark square of its own size on white paper."""
    rng = np.random.default_rng(0)
    for index, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = 255 - rng.integers(0, 30, size[::-1], dtype=np.uint8)
            ink = slice(1, 4 + 7 * index)
            pixels[ink, ink] = rng.integers(0, 30, pixels[ink, ink].shape)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder with its content and time of change."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
