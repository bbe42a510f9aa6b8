"""Which engine runs a meta-batch: as asked for, or measured."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, GradientBased
from ..checks import device_of
from ..episodes import Episode
from ..errors import InputError, KitError, first_line
from ..ranges import check_counts
from . import loop, reference, vmap
from .compiled import Program
from .copies import Copies
from .refusals import Refused, explained
from .results import Result

ENGINES = ("vmap", "loop", "reference")
ROUNDS = 5
CLEARLY = 0.9  # of the loop's time: what vmap has to need at most, since measurements are noisy
SMALL_CHUNK = 2  # tasks; convolutions that differ by task win nothing from more of them at once on a CPU


@dataclass(frozen=True)
class Choice:
    """How meta-batches are run."""

    engine: str  # "vmap", "loop" or "reference"
    chunk: int | None = None  # episodes at a time, of "vmap"; None: all
    workers: int | None = None  # episodes at a time, of "loop"
    compiled: bool = False
    why: str = "as asked for"
    program: Program | None = field(default=None, repr=False, compare=False)
    copies: Copies = field(default_factory=Copies, repr=False, compare=False)  # of "loop"

    @property
    def name(self) -> str:
        """In words."""
        if self.engine == "loop":
            return f"loop on {self.workers} worker{'s' if self.workers != 1 else ''}"
        return self.engine if self.chunk is None else f"{self.engine} in chunks of {self.chunk}"

    def __str__(self) -> str:
        return f"{self.name}{', compiled' if self.compiled else ''} ({self.why})"

    def settings(self) -> dict[str, Any]:
        """What a run records, to be made the same again."""
        return {"engine": self.engine, "chunk": self.chunk, "workers": self.workers, "compile": self.compiled}

    def run(self, algorithm: Algorithm, episodes: Episode) -> Result:
        """Losses, scores and summed gradients of a meta-batch. `InputError` where a model does not allow it."""
        if self.program is not None:
            return self.program(algorithm, episodes, self.chunk)
        with explained(algorithm, self.engine, episodes):
            if self.engine == "vmap":
                return vmap.run(algorithm, episodes, self.chunk)
            if self.engine == "loop":
                return loop.run(algorithm, episodes, self.workers, self.copies)
            return reference.run(algorithm, episodes)

    def predict(self, algorithm: Algorithm, episodes: Episode) -> Tensor:
        """Query scores `[T, Q, classes]`, without graph."""
        with explained(algorithm, self.engine, episodes):
            if self.engine == "vmap":
                return vmap.predict(algorithm, episodes, self.chunk)
            return loop.predict(algorithm, episodes, self.workers, self.copies)


def choose(
    algorithm: Algorithm,
    episodes: Episode,
    engine: str = "auto",
    chunk: int | None = None,
    workers: int | None = None,
    compile: bool = False,
) -> Choice:
    """The engine for meta-batches like this one.

    `"auto"` times `vmap` and `loop` on it, on a copy of the algorithm, and says in `why` what came out.

    Args:
        episodes: a meta-batch, with the leading T.
        engine: `"auto"`, `"vmap"`, `"loop"` or `"reference"`.
        chunk: episodes at a time, for `"vmap"`.
        workers: episodes at a time, for `"loop"`.
        compile: compile the meta-gradient of `"vmap"` by `torch.compile`.

    Raises:
        InputError: no such engine; a setting that the engine does not have; a chunk larger than the meta-batch; no
            workers; a model that the engine cannot run.
    """
    _check(engine, chunk, workers, compile, len(episodes.support_x))
    if compile:
        return _compiled(algorithm, episodes, chunk)
    if engine != "auto":
        return _explicit(algorithm, engine, chunk, workers)
    return _measured(algorithm, episodes, chunk, workers)


def usual(algorithm: Algorithm, episodes: Episode) -> Choice:
    """The engine without measuring, so that the same evaluation is run the same way every time: `loop` for
    convolutional nets on a CPU and for what `vmap` cannot take, `vmap` for all others."""
    choice = Choice("loop", workers=loop.usual_workers(algorithm))
    if loop.convolutional_on_cpu(algorithm):
        return choice
    return choice if _failure(Choice("vmap"), algorithm, _few(episodes), Choice.predict) else Choice("vmap")


def _check(engine: str, chunk: int | None, workers: int | None, compile: bool, tasks: int) -> None:
    if engine != "auto" and engine not in ENGINES:
        raise InputError(f"Unknown engine '{engine}'; it is one of auto, {', '.join(ENGINES)}.")
    if chunk is not None:
        check_counts(chunk=chunk)
        if chunk > tasks:
            raise InputError(f"chunk is {chunk}, more than the {tasks} episodes of a meta-batch; take at most {tasks}.")
        if engine not in ("auto", "vmap"):
            raise InputError(f"Only the engine 'vmap' has chunks; leave chunk={chunk} out, or take engine='vmap'.")
    if workers is not None:
        check_counts(workers=workers)
        if engine not in ("auto", "loop"):
            raise InputError(f"Only the engine 'loop' has workers; leave workers={workers} out, or take engine='loop'.")
    if compile and engine not in ("auto", "vmap"):
        raise InputError(f"Only the engine 'vmap' can be compiled, not '{engine}'; take engine='vmap'.")


def _explicit(algorithm: Algorithm, engine: str, chunk: int | None, workers: int | None) -> Choice:
    if engine == "loop":
        return Choice("loop", workers=workers or loop.usual_workers(algorithm))
    return Choice(engine, chunk=chunk)


def _measured(algorithm: Algorithm, episodes: Episode, chunk: int | None, workers: int | None) -> Choice:
    tasks = len(episodes.support_x)
    looped = _explicit(algorithm, "loop", None, workers)
    if workers is not None:
        return replace(looped, why="workers were asked for")
    small = chunk is None and loop.convolutional_on_cpu(algorithm) and _adapts_convolutions(algorithm)
    mapped = Choice("vmap", chunk=min(SMALL_CHUNK, tasks) if small else chunk)
    failure = _failure(mapped, algorithm, _few(episodes), Choice.run)
    if failure:
        return replace(looped, why=f"vmap cannot run it: {failure}")
    probe = copy.deepcopy(algorithm)
    rounds: list[list[float]] = []
    while len(rounds) < ROUNDS and not (rounds and max(rounds[-1]) > 2 * min(rounds[-1])):  # so far apart: no question
        rounds.append([_seconds(choice, probe, episodes) for choice in (looped, mapped)])
    # The least of the rounds: other work on the machine only ever adds.
    by_loop, by_vmap = (min(column) for column in zip(*rounds, strict=True))
    said = f"measured on {tasks} episodes: {looped.name} {1e3 * by_loop:.1f} ms, {mapped.name} {1e3 * by_vmap:.1f} ms"
    if by_vmap >= CLEARLY * by_loop:
        return replace(looped, why=said)
    wrong = _disagreement(algorithm, episodes)
    return replace(looped, why=f"vmap gets it wrong: {wrong}") if wrong else replace(mapped, why=said)


def _few(episodes: Episode) -> Episode:
    return Episode(*(tensor[:2] for tensor in episodes))


def _adapts_convolutions(algorithm: Algorithm) -> bool:
    if not isinstance(algorithm, GradientBased):
        return False
    layers = [m for m in algorithm.model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    weights = {id(parameter) for layer in layers for parameter in layer.parameters()}
    moving = algorithm.adapts()
    return any(id(p) in weights for name, p in algorithm.model.named_parameters() if name in moving)


def _seconds(choice: Choice, algorithm: Algorithm, episodes: Episode) -> float:
    on_gpu = device_of(algorithm).type == "cuda"
    with torch.random.fork_rng(devices=[device_of(algorithm)] if on_gpu else []):
        started = time.perf_counter()
        choice.run(algorithm, episodes)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def _failure(choice: Choice, algorithm: Algorithm, episodes: Episode, way: Callable[..., Any]) -> str | None:
    """Why an engine cannot run it, or None; the algorithm and the random numbers are left as they were."""
    probe = copy.deepcopy(algorithm)
    try:
        with torch.random.fork_rng(devices=[]):
            way(choice, probe, episodes)
    except Refused as error:
        return error.reason
    return None


def _disagreement(algorithm: Algorithm, episodes: Episode) -> str | None:
    """Whether `vmap` and `loop` differ, on two episodes in float64: some operator's derivative may be wrong in one.

    No more queries than support examples take part: the trial is not to need more memory than the training.
    """
    probe = copy.deepcopy(algorithm).double().eval()  # without dropout
    shown = episodes.support_x.shape[1]
    few = [tensor[:, :shown].double() if tensor.is_floating_point() else tensor[:, :shown] for tensor in _few(episodes)]
    try:
        one, other = (choice.run(probe, Episode(*few)) for choice in (Choice("vmap"), Choice("loop", workers=1)))
    except (RuntimeError, KitError):  # a model may be bound to its dtype or mode: then there is nothing to compare
        return None
    pairs = [(a, b) for a, b in zip(one.gradients, other.gradients, strict=True) if a is not None and b is not None]
    apart = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    size = torch.stack([b.norm() for _, b in pairs]).norm()
    return f"its gradient is {float(apart / size):.1e} off that of the loop" if apart > 1e-6 * size else None


def _compiled(algorithm: Algorithm, episodes: Episode, chunk: int | None) -> Choice:
    plain = Choice("vmap", chunk=chunk)
    failure = _failure(plain, algorithm, episodes, Choice.run)
    if failure:
        raise InputError(f"This cannot be compiled: {failure}; leave --compile out.")
    choice = replace(plain, compiled=True, program=Program())
    try:
        _seconds(choice, copy.deepcopy(algorithm), episodes)
    except Exception as error:  # a compiler fails in many ways, none of which has to stop a run
        said = f"compiling failed ({type(error).__name__}: {first_line(error)})"
        return replace(plain, why=f"{said}; vmap runs without")
    assert choice.program is not None
    return replace(choice, why=f"compiled in {choice.program.seconds:.1f} s")
