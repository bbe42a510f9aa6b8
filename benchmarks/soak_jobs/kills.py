"""Processes killed at random, and in the middle of writing; what they had reached must not be lost."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import torch

from fewshot_kit import Learner

from . import work

FILES = ("metrics.jsonl", "config.yaml", "checkpoints/last.safetensors", "checkpoints/best.safetensors")
PLACES = ("before", "torn", "after")


def kills(count: int, dice: random.Random, folder: Path) -> list[dict[str, object]]:
    """Rows of the table: what was killed, how often, and how often nothing was lost."""
    rows = []
    for what, share, attack in (
        ("a training run, at any time", 0.4, _runs_any_time),
        ("a training run, while it writes a file", 0.3, _runs_writing),
        ("a learner that is saved over an older one", 0.15, _learners),
        ("the cache of a data set", 0.15, _caches),
    ):
        number = round(share * count)
        place = folder / what.split(",")[0].replace(" ", "-") / str(len(rows))
        place.mkdir(parents=True)
        injected, survived = attack(number, dice, place)
        rows.append({"what": what, "injected": injected, "survived": survived, "lost": injected - survived})
    return rows


def _runs(count: int, folder: Path, attack: work.Callable[[Path, float], work.Ended]) -> tuple[int, int]:
    """Attack a run again and again until it is done, then another one; each has to end as one that was left alone."""
    whole = folder / "whole"
    took = work.in_a_process(lambda: work.train_on(whole))
    assert took.status == 0, "the run that is left alone fails"
    injected, survived, number = 0, 0, 0
    while injected < count:
        run, number, mine = folder / f"run{number}", number + 1, 0
        while injected + mine < count:
            ended = attack(run, took.seconds)
            if ended.status is not None:
                break
            mine += 1
        last = work.in_a_process(lambda run=run: work.train_on(run))  # type: ignore[misc]
        same = last.status == 0 and all((run / name).read_bytes() == (whole / name).read_bytes() for name in FILES)
        injected, survived = injected + mine, survived + mine * same
    return injected, survived


def _runs_any_time(count: int, dice: random.Random, folder: Path) -> tuple[int, int]:
    def attack(run: Path, seconds: float) -> work.Ended:
        return work.in_a_process(lambda: work.train_on(run), kill_after=dice.uniform(0, seconds))

    return _runs(count, folder, attack)


def _runs_writing(count: int, dice: random.Random, folder: Path) -> tuple[int, int]:
    def attack(run: Path, seconds: float) -> work.Ended:
        write, place = dice.randint(1, 12), dice.choice(PLACES)

        def torn() -> None:
            with work.killed_while_writing(write, place):
                work.train_on(run)

        return work.in_a_process(torn)

    return _runs(count, folder, attack)


def _learners(count: int, dice: random.Random, folder: Path) -> tuple[int, int]:
    path, learner = folder / "learner.safetensors", work.learner()
    learner.save(path)
    x = torch.rand(3, 1, 14, 14, generator=torch.Generator().manual_seed(1))
    expected, survived = learner.predict_proba(x), 0
    for _ in range(count):

        def saved() -> None:
            with work.killed_while_writing(1, dice.choice(PLACES)):
                learner.save(path)

        dice.random()  # the child's choice does not come back
        assert work.in_a_process(saved).status is None
        with contextlib.suppress(Exception):
            survived += torch.equal(Learner.load(path).predict_proba(x), expected)
    return count, survived


def _caches(count: int, dice: random.Random, folder: Path) -> tuple[int, int]:
    survived = 0
    for number in range(count):
        place = folder / str(number)

        def kept(place: Path = place) -> None:
            with work.killed_while_writing(1, dice.choice(PLACES)):
                work.cache(place)

        dice.random()
        assert work.in_a_process(kept).status is None
        survived += torch.equal(work.cache(place), torch.arange(2**20, dtype=torch.int32))
    return count, survived
