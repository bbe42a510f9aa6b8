"""A contest: everybody is checked, warmed up, and then timed in turns."""

from __future__ import annotations

import functools
import importlib
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from fewshot_kit import compat
from fewshot_kit.errors import first_line

from . import machine
from .work import Make, Prepared, Work, distance

AGREEMENT = 1e-9  # of meta-gradients in float64, in terms of the baseline's length
CHECKED_TASKS = 2
SHORTEST = 0.02  # seconds: shorter calls are repeated until they fill this


def _easyfsl() -> Any:
    compat.torchvision()  # which it imports
    return importlib.import_module("easyfsl")


LOADERS = {"learn2learn": compat.learn2learn, "higher": compat.higher, "easyfsl": _easyfsl}
PATIENCE = 40.0  # seconds: who has used them up and been timed three times sits the other rounds out


@dataclass(frozen=True)
class Contestant:
    """Somebody who does the job.

    Args:
        name: what the page calls it.
        prepare: gets it ready.
        deviation: how far its result is from the baseline's, found before it is timed.
        library: what it stands on, beside the kit.
        compiles: whether the first call compiles.
    """

    name: str
    prepare: Callable[[], Prepared]
    deviation: Callable[[Prepared], float] | None = None
    library: str | None = None
    compiles: bool = False

    def load(self) -> None:
        """Import its library, so that this is no part of any figure; `ImportError` says that it is not there."""
        if self.library is not None:
            LOADERS.get(self.library, lambda: importlib.import_module(str(self.library)))()


@dataclass(frozen=True)
class Contest:
    """One job, ready to run.

    Args:
        contestants: in the order of the page.
        about: the job in a sentence.
        tasks: how many tasks one call does.
        flop: counts the floating-point operations of one call, where that makes sense.
    """

    contestants: list[Contestant]
    about: str
    tasks: int
    flop: Callable[[], int] | None = None


class Maker(NamedTuple):
    """How a contestant does any `Work`."""

    make: Make
    library: str | None = None
    compiles: bool = False


def gradient_contest(work: Work, makers: dict[str, Maker], about: str) -> Contest:
    """The contest over one meta-gradient: float64 on the first tasks decides who agrees with the first contestant."""
    first, *_ = makers.values()

    @functools.cache
    def expected() -> tuple[Work, list[torch.Tensor]]:
        few = work.part(CHECKED_TASKS, torch.float64)
        return few, [slope.clone() for slope in first.make(few).call()]

    def contestant(name: str, maker: Maker) -> Contestant:
        def deviation(prepared: Prepared) -> float:
            few, slopes = expected()
            return distance((prepared.make_again or maker.make)(few).call(), slopes)

        return Contestant(name, lambda: maker.make(work), deviation, maker.library, maker.compiles)

    tasks = len(work.tasks)
    return Contest(
        [contestant(name, maker) for name, maker in makers.items()],
        about,
        tasks,
        lambda: tasks * machine.flop(first.make(work.part(1)).call),
    )


def run(contest: Contest, rounds: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Everybody's figures by name; of those who do not take part, the reason under `"absent"` or `"refused"`."""
    results: dict[str, dict[str, Any]] = {}
    ready: dict[str, Prepared] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old libraries on new ones: nothing that a reader of the table can mend
        for contestant in contest.contestants:
            result, prepared = _warm(contestant, device, contest.contestants[0].name)
            results[contestant.name] = result
            _tell(contestant.name, result)
            if prepared is not None:
                ready[contestant.name] = prepared
        _rounds(results, ready, rounds, device)
    for contestant in contest.contestants:
        result = results[contestant.name]
        if contestant.compiles and "seconds" in result:
            before = result["prepare"] + result["first"]  # the kit compiles while it gets ready, JAX at the first call
            result["compile"] = max(0.0, before - statistics.median(result["seconds"]))
    return results


def _tell(name: str, result: dict[str, Any]) -> None:
    said = next((result[word] for word in ("absent", "refused") if word in result), None)
    said = said or f"ready in {result['prepare']:.2f} s, first call {result['first']:.2f} s"
    print(f"  {name}: {said}", file=sys.stderr, flush=True)


def _warm(contestant: Contestant, device: torch.device, baseline: str) -> tuple[dict[str, Any], Prepared | None]:
    """Prepare, check and run a contestant for the first time."""
    try:
        contestant.load()
        started = time.perf_counter()
        prepared = contestant.prepare()
        result: dict[str, Any] = {"note": prepared.note, "prepare": time.perf_counter() - started}
        if contestant.deviation is not None:
            result["deviation"] = contestant.deviation(prepared)
            if not result["deviation"] <= AGREEMENT:  # nan is no agreement either
                return {"refused": f"its result is {result['deviation']:.1e} away from {baseline}'s"}, None
        result["first"] = machine.stopwatch(prepared.call, device)
    except ImportError as error:
        return {"absent": first_line(error)}, None
    except Exception as error:  # one that cannot do the job is named on the page, and the others go on
        return {"refused": f"{type(error).__name__}: {first_line(error)}"}, None
    short = contestant.compiles or result["first"] < 1  # what takes long without compiling is no call to repeat
    second = machine.stopwatch(prepared.call, device) if short else SHORTEST
    result["repeats"] = min(1000, max(1, math.ceil(SHORTEST / second)))
    return result, prepared


def _rounds(results: dict[str, dict[str, Any]], ready: dict[str, Prepared], rounds: int, device: torch.device) -> None:
    """One timed call of each a round; every round begins with another contestant."""
    names, threads = list(ready), torch.get_num_threads()
    for name in names:
        results[name]["seconds"] = []
    for index in range(rounds):
        turn = index % max(1, len(names))
        for name in names[turn:] + names[:turn]:
            seconds = results[name]["seconds"]
            if len(seconds) < 3 or sum(seconds) * results[name]["repeats"] < PATIENCE:
                torch.set_num_threads(threads)  # whatever the one before has left behind
                seconds.append(machine.stopwatch(ready[name].call, device, results[name]["repeats"]))
