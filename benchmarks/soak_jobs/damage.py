"""Every file that the kit writes, with a byte changed or its end cut off: refused by name, or of no consequence."""

from __future__ import annotations

import random
import shutil
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fewshot_kit import Learner, load
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import from_run
from fewshot_kit.runs.checkpoints import read_results

from . import work

OUTCOMES = ("refused", "of no consequence", "wrongly accepted", "crashed")
REFUSED, UNCHANGED, ACCEPTED, CRASHED = OUTCOMES


def damage(count: int, dice: random.Random, folder: Path) -> list[dict[str, Any]]:
    """Rows of the table: a file, how often it was damaged, and what came of it. Every other time its end is cut off."""
    run, place = folder / "run", folder / "damaged"
    assert work.in_a_process(lambda: work.train_on(run)).status == 0
    learner, store = folder / "learner.safetensors", folder / "cache"
    work.learner().save(learner)
    work.cache(store, 2**12)
    cached = next(store.iterdir())
    reads: list[tuple[Path, Path, Callable[[Path], Any]]] = [
        (run, run / "config.yaml", _run),
        (run, run / "metrics.jsonl", _resumed),
        (run, run / "checkpoints" / "last.safetensors", _resumed),
        (run, run / "checkpoints" / "best.safetensors", _run),
        (run, run / "results.json", _results),
        (learner, learner, _learner),
        (store, cached, lambda path: work.cache(path, 2**12)),
    ]
    rows = []
    for whole, file, read in reads:
        expected = read(_copied(whole, place))
        found: Counter[str] = Counter()
        for number in range(count):
            copy = _copied(whole, place)
            damaged = copy / file.relative_to(whole) if whole.is_dir() else copy
            _change(damaged, dice) if number % 2 else _cut(damaged, dice)
            found[_outcome(read, copy, expected, damaged.name)] += 1
        rows.append(_row(file.name if file != cached else "a file of the cache", found))
    return rows


def _row(what: str, found: Counter[str]) -> dict[str, Any]:
    return {"what": what, "tried": found.total()} | {
        name: found[name] for name in (REFUSED, UNCHANGED, ACCEPTED, CRASHED)
    }


def _copied(whole: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    target = place / whole.name
    (shutil.copytree if whole.is_dir() else shutil.copy)(whole, target)
    return target


def _change(file: Path, dice: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[dice.randrange(len(data))] ^= dice.randint(1, 255)
    file.write_bytes(data)


def _cut(file: Path, dice: random.Random) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: dice.randrange(len(data))])


def _outcome(read: Callable[[Path], Any], path: Path, expected: Any, name: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a damaged cache is built anew
            found = read(path)
    except InputError as error:
        return REFUSED if name in str(error) and "\n" not in str(error) else CRASHED
    except Exception:
        return CRASHED
    return UNCHANGED if _same(found, expected) else ACCEPTED


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)


def _run(run: Path) -> Any:
    """What a user has of a run: its weights and its settings."""
    settings = from_run(run) | {"run": ""}
    return {"weights": dict(load(run).state_dict()), "settings": settings}


def _resumed(run: Path) -> Any:
    """What the run is after it went on from its last checkpoint, of which there is nothing left to do."""
    work.train_on(run)
    return {"weights": dict(load(run, which="last").state_dict()), "metrics": (run / "metrics.jsonl").read_bytes()}


def _results(run: Path) -> Any:
    """Nothing is computed from this file: it is only shown, so that any readable content is right."""
    read_results(run)
    return _run(run)


def _learner(path: Path) -> Any:
    x = torch.rand(3, 1, 14, 14, generator=torch.Generator().manual_seed(1))
    return Learner.load(path).predict_proba(x)
