"""Which engine runs a meta-batch: as asked for, or measured."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm, GradientBased
from ..algorithms.modes import kept_modes
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
PATIENCE = 10.0  # seconds after which no further round begins
CLEARLY = 0.9  # of the loop's time: what vmap has to need at most, since measurements are noisy
TRIED = 16  # tasks that convolutional nets are measured on at most on a CPU
LARGEST = (
    1_500_000  # bytes that convolutions give for a task: measured, vmap gained at 0.7 MB, and nothing from 2 MB on
)


@dataclass(frozen=True)
class Choice:
    """How meta-batches are run."""

    engine: str  # "vmap", "loop" or "reference"
    chunk: int | None = None  # episodes at a time, of "vmap" and each worker; None: all
    workers: int | None = None  # threads: episodes at a time, of "loop", or chunks at a time, of "vmap"
    compiled: bool = False
    why: str = "as asked for"
    program: Program | None = field(default=None, repr=False, compare=False)
    copies: Copies = field(default_factory=Copies, repr=False, compare=False)  # for the workers

    @property
    def name(self) -> str:
        """In words."""
        chunks = "" if self.chunk is None else f" in chunks of {self.chunk}"
        workers = "" if self.workers is None else f" on {self.workers} worker{'s' if self.workers != 1 else ''}"
        return f"{self.engine}{chunks}{workers}"

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
                return vmap.run(algorithm, episodes, self.chunk, self.workers, self.copies)
            if self.engine == "loop":
                return loop.run(algorithm, episodes, self.workers, self.copies)
            return reference.run(algorithm, episodes)

    def predict(self, algorithm: Algorithm, episodes: Episode) -> Tensor:
        """Query scores `[T, Q, classes]`, without graph."""
        with explained(algorithm, self.engine, episodes):
            if self.engine == "vmap":
                return vmap.predict(algorithm, episodes, self.chunk)
            return loop.predict(algorithm, episodes, self.workers, self.copies)

    def for_evaluation(self, algorithm: Algorithm) -> Choice:
        """This one, or the loop for convolutional nets on a CPU: with many queries a task they gain nothing else."""
        if self.engine == "vmap" and loop.convolutional_on_cpu(algorithm):
            return Choice("loop", workers=loop.usual_workers(algorithm))
        return self


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
        workers: threads, for `"loop"` and `"vmap"`.
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
    return choice if _failure(Choice("vmap"), algorithm, _first(episodes, 2), Choice.predict) else Choice("vmap")


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
        if engine == "reference":
            raise InputError(f"The engine 'reference' has no workers; leave workers={workers} out.")
        if compile:
            raise InputError(f"A compiled program has no workers; leave workers={workers} out.")
    if compile and engine not in ("auto", "vmap"):
        raise InputError(f"Only the engine 'vmap' can be compiled, not '{engine}'; take engine='vmap'.")


def _explicit(algorithm: Algorithm, engine: str, chunk: int | None, workers: int | None) -> Choice:
    if engine == "loop":
        return Choice("loop", workers=workers or loop.usual_workers(algorithm))
    return Choice(engine, chunk=chunk, workers=workers)


def _measured(algorithm: Algorithm, episodes: Episode, chunk: int | None, workers: int | None) -> Choice:
    looped = _explicit(algorithm, "loop", None, workers)
    if workers is not None:
        return replace(looped, why="workers were asked for")
    chunked = chunk is None and loop.convolutional_on_cpu(algorithm) and _adapts_convolutions(algorithm)
    if chunked and (size := _convolved(algorithm, episodes)) > LARGEST:
        said = (
            f"its convolutions give {size / 1e6:.1f} MB a task; on a CPU vmap has gained up to {LARGEST / 1e6:.1f} MB"
        )
        return replace(looped, why=said)
    failure = _failure(Choice("vmap", chunk=chunk), algorithm, _first(episodes, 2), Choice.run)
    if failure:
        return replace(looped, why=f"vmap cannot run it: {failure}")
    probe, started = copy.deepcopy(algorithm), time.perf_counter()
    mapped = [Choice("vmap", chunk=chunk)]
    if chunked:
        episodes = _first(episodes, TRIED)
        mapped = _chunked(probe, episodes, looped.workers or 1)
    rounds: list[list[float]] = []
    while len(rounds) < ROUNDS and not (rounds and time.perf_counter() - started > PATIENCE):
        rounds.append([_seconds(choice, probe, episodes) for choice in (looped, *mapped)])
    # The least of the rounds: other work on the machine only ever adds.
    by_loop, *by_vmap = (min(column) for column in zip(*rounds, strict=True))
    pairs = zip((looped, *mapped), (by_loop, *by_vmap), strict=True)
    said = ", ".join(f"{choice.name} {1e3 * seconds:.1f} ms" for choice, seconds in pairs)
    said = f"measured on {len(episodes.support_x)} episodes: {said}"
    if min(by_vmap) >= CLEARLY * by_loop:
        return replace(looped, why=said)
    wrong = _disagreement(algorithm, episodes)
    best = mapped[by_vmap.index(min(by_vmap))]
    return replace(looped, why=f"vmap gets it wrong: {wrong}") if wrong else replace(best, why=said)


def _chunked(probe: Algorithm, episodes: Episode, threads: int) -> list[Choice]:
    """`vmap` in the largest chunks that were worth doubling them, and such chunks on every thread.

    Convolutions that differ by task gain from more of them up to a size that depends on the net, the task and the
    machine. Memory grows with the chunk: a larger one is tried only where the one before it was worth it.
    """
    tasks = len(episodes.support_x)
    chunk, least = 1, math.inf
    while chunk < tasks:
        following = min(2 * chunk, tasks)
        few = _first(episodes, following)
        # The first time prepares for new shapes.
        each = min(_seconds(Choice("vmap"), probe, few) for _ in range(3)) / following
        if each > CLEARLY * least:
            break
        chunk, least = following, each
    found = [Choice("vmap", chunk=chunk)]
    if min(threads, tasks) > 1:
        found.append(Choice("vmap", chunk=min(chunk, math.ceil(tasks / threads)), workers=threads))
    return found


def _convolved(algorithm: Algorithm, episodes: Episode) -> int:
    """Bytes that the convolutions give for the images of one task."""
    sizes: list[int] = []
    layers = [m for m in algorithm.model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    hooks = [layer.register_forward_hook(lambda _, inputs, output: sizes.append(output.nbytes)) for layer in layers]
    try:
        with torch.no_grad(), kept_modes(algorithm), torch.random.fork_rng(devices=[]):
            algorithm.model.eval()(torch.cat([episodes.support_x[0], episodes.query_x[0]]))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes)


def _first(episodes: Episode, count: int) -> Episode:
    return Episode(*(tensor[:count] for tensor in episodes))


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
    shorter = [tensor[:, :shown] for tensor in _first(episodes, 2)]
    few = [tensor.double() if tensor.is_floating_point() else tensor for tensor in shorter]
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
