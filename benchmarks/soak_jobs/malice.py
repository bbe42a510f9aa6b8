"""The corpus of tests/hostile.py, read as files of a user: each works or is refused in a line, in little memory."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fewshot_kit.cli.plugins import load_plugins
from fewshot_kit.datasets import Transform
from fewshot_kit.datasets.files.archives import in_tar, opened_zip, read_member
from fewshot_kit.datasets.files.images import decode
from fewshot_kit.datasets.files.lists import read_csv
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import from_file
from fewshot_kit.runs.checkpoints import read_state

TESTS = Path(__file__).resolve().parents[2] / "tests"
MOST = 500  # MB that one file may take
LONGEST = 30.0  # seconds
WORKS, REFUSED, CRASHED = "works", "refused", "crashed"


def malice(folder: Path) -> list[dict[str, Any]]:
    """Rows of the table: a kind of files, how many there are, and what came of them."""
    sys.path.insert(0, str(TESTS))
    import hostile

    rows = []
    for kind, makers in hostile.EVERY.items():
        found: Counter[str] = Counter()
        for name, make in makers.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                outcome = _alone(READERS[kind], make(Path(place)))
            found[outcome] += 1
            if outcome == CRASHED:
                print(f"soak: {kind} '{name}' crashed", file=sys.stderr)
        row = {"what": f"{kind} files", "tried": found.total()}
        rows.append(row | {name: found[name] for name in (WORKS, REFUSED, CRASHED)})
    return rows


def _alone(read: Callable[[Path], Any], path: Path) -> str:
    """What comes of reading a file, in a process of its own, whose time and memory are looked at."""
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        os._exit(_status(read, path))
    _, code, used = os.wait4(child, 0)
    grown = used.ru_maxrss / 1024 - _own_memory()
    if os.WIFSIGNALED(code) or grown > MOST or time.perf_counter() - started > LONGEST:
        return CRASHED
    return {0: WORKS, 2: REFUSED}.get(os.WEXITSTATUS(code), CRASHED)


def _own_memory() -> float:
    """Memory of this process, in MB, which a forked one has from the start."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _status(read: Callable[[Path], Any], path: Path) -> int:
    try:
        torch.set_num_threads(1)
        read(path)
    except InputError as error:
        return 2 if "\n" not in str(error) else 1
    except BaseException as error:
        print(f"soak: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _zip(path: Path) -> None:
    with opened_zip(path) as archive:
        for name in archive.namelist():
            read_member(archive, name, path)


READERS: dict[str, Callable[[Path], Any]] = {
    "image": lambda path: decode(path, Transform(8, 3), str(path)),
    "list": lambda path: read_csv(path, path.parent),
    "tar": in_tar,
    "zip": _zip,
    "yaml": lambda path: from_file(str(path)),
    "safetensors": read_state,
    "plug-in": lambda path: load_plugins([str(path)]),
}
