"""Which engine runs a meta-batch: as asked for, or measured."""

from __future__ import annotations

import copy
from dataclasses import replace

from ..algorithms import Algorithm
from ..episodes import Episode
from ..errors import InputError, first_line
from ..ranges import check_counts
from . import loop
from .choice import Choice
from .compiled import Program
from .measuring import failure_of, first_of, measured, seconds_of

ENGINES = ("vmap", "loop", "reference")


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
    looped = _explicit(algorithm, "loop", None, workers)
    if workers is not None:
        return replace(looped, why="workers were asked for")
    return measured(looped, algorithm, episodes, chunk)


def usual(algorithm: Algorithm, episodes: Episode) -> Choice:
    """The engine without measuring, so that the same evaluation is run the same way every time: `loop` for
    convolutional nets on a CPU and for what `vmap` cannot take, `vmap` for all others."""
    choice = Choice("loop", workers=loop.usual_workers(algorithm))
    if loop.convolutional_on_cpu(algorithm):
        return choice
    return choice if failure_of(Choice("vmap"), algorithm, first_of(episodes, 2), Choice.predict) else Choice("vmap")


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


def _compiled(algorithm: Algorithm, episodes: Episode, chunk: int | None) -> Choice:
    plain = Choice("vmap", chunk=chunk)
    failure = failure_of(plain, algorithm, episodes, Choice.run)
    if failure:
        raise InputError(f"This cannot be compiled: {failure}; leave --compile out.")
    choice = replace(plain, compiled=True, program=Program())
    try:
        seconds_of(choice, copy.deepcopy(algorithm), episodes)
    except Exception as error:  # a compiler fails in many ways, none of which has to stop a run
        said = f"compiling failed ({type(error).__name__}: {first_line(error)})"
        return replace(plain, why=f"{said}; vmap runs without")
    assert choice.program is not None
    return replace(choice, why=f"compiled in {choice.program.seconds:.1f} s")
