"""The choice of an engine: the one that is asked for, or the fastest."""

from __future__ import annotations

import copy
from dataclasses import replace

from ..algorithms import Algorithm
from ..episodes import Episode
from ..errors import InputError
from ..modules.kinds import check_values
from ..modules.place import device_of
from ..ranges import check_counts
from . import loop
from .choice import CHUNKED, Choice
from .compiled import Program
from .timing import (
    failure_of,
    faster,
    first_of,
    in_words,
    measured,
    seconds_of,
    seconds_or_never,
    unfit,
    worth_trying,
)

ENGINES = ("factored", "vmap", "loop", "reference")
NAMED = "the engines " + " and ".join(f"'{name}'" for name in CHUNKED)


def choose(
    algorithm: Algorithm,
    episodes: Episode,
    engine: str = "auto",
    chunk: int | None = None,
    workers: int | None = None,
    compile: bool = False,
    unfold: bool = False,
) -> Choice:
    """Returns the engine for meta-batches like this one.

    `"auto"` times `loop`, `vmap` and, where it applies, `factored` on a copy of the algorithm. The choice's `why` holds
    the times. It tries and takes no chunk, asked for or not, that may need more memory than is free (`memory.fitting`).

    Args:
        episodes: a meta-batch, with the leading T.
        engine: `"auto"`, `"factored"`, `"vmap"`, `"loop"` or `"reference"`.
        chunk: episodes that `"factored"` or `"vmap"` runs at a time.
        workers: threads, for `"loop"` and `"vmap"`, and those that the operators of `"factored"` run on.
        compile: compile the meta-gradient of `"factored"` or `"vmap"` with `torch.compile`.
        unfold: run the 2D convolutions of `"vmap"` as matrix products. `"auto"` also tries this on a GPU if the
            convolutions adapt.

    Raises:
        InputError: no such engine; a setting that the engine does not have; a chunk larger than the meta-batch; no
            workers, or several on a GPU; a model that the engine cannot run.
    """
    check_running(engine, chunk, workers, compile, unfold, len(episodes.support_x))
    device = device_of(algorithm)
    if workers is not None and workers > 1 and device.type != "cpu":
        raise InputError(f"Workers are threads of a CPU, and this runs on '{device}'; leave workers={workers} out.")
    if device.type == "meta":
        check_values(algorithm)
    mapped = Choice("vmap", chunk=chunk, workers=workers, unfold=unfold)
    shared = Choice("factored", chunk=chunk, workers=workers)
    if engine == "factored" and (why := unfit(shared, algorithm, episodes)):
        raise InputError(f"The engine 'factored' cannot run this: {why}; take engine='auto'.")
    if compile:
        if engine == "auto":
            return _compiled(faster(mapped, algorithm, episodes), algorithm, episodes)
        return _compiled(shared if engine == "factored" else mapped, algorithm, episodes)
    if engine == "factored":
        return shared
    if engine == "vmap":
        return mapped
    if engine == "reference":
        return Choice("reference")
    looped = Choice("loop", workers=workers or loop.usual_workers(algorithm))
    if engine == "loop":
        return looped
    if workers is not None:
        return replace(looped, why="workers were asked for")
    return measured(looped, mapped, algorithm, episodes)


def usual(algorithm: Algorithm, episodes: Episode) -> Choice:
    """Returns the engine for an evaluation, without measuring, so that repeated evaluations run the same way.

    It is `loop` for convolutional nets on a CPU and for models that `vmap` cannot run, and `vmap` for all others.
    """
    choice = Choice("loop", workers=loop.usual_workers(algorithm))
    if loop.convolutional_on_cpu(algorithm):
        return choice
    return (
        choice if failure_of(Choice("vmap"), algorithm, first_of(episodes, 2), Choice.predict_once) else Choice("vmap")
    )


def check_running(engine: str, chunk: int | None, workers: int | None, compile: bool, unfold: bool, tasks: int) -> None:
    """Raises `InputError` for what no engine has, or not this one, with meta-batches of `tasks` episodes."""
    if engine != "auto" and engine not in ENGINES:
        raise InputError(f"Unknown engine '{engine}'; it is one of auto, {', '.join(ENGINES)}.")
    if chunk is not None:
        check_counts(chunk=chunk)
        if chunk > tasks:
            raise InputError(f"chunk is {chunk}, more than the {tasks} episodes of a meta-batch; take at most {tasks}.")
        if engine not in ("auto", *CHUNKED):
            raise InputError(f"Only {NAMED} have chunks; leave chunk={chunk} out, or take engine='vmap'.")
    if workers is not None:
        check_counts(workers=workers)
        if engine == "reference":
            raise InputError(f"The engine 'reference' has no workers; leave workers={workers} out.")
        if compile and engine != "factored":
            raise InputError(f"A compiled program has no workers; leave workers={workers} out.")
    if compile and engine not in ("auto", *CHUNKED):
        raise InputError(f"Only {NAMED} can be compiled, not '{engine}'; take engine='vmap'.")
    if unfold and engine not in ("auto", "vmap"):
        raise InputError(f"Only the engine 'vmap' unfolds convolutions, not '{engine}'; take engine='vmap'.")
    if unfold and engine == "auto" and workers is not None:
        raise InputError("With workers 'auto' takes the loop, which unfolds no convolutions; take engine='vmap'.")


def _compiled(mapped: Choice, algorithm: Algorithm, episodes: Episode) -> Choice:
    failure = failure_of(mapped, algorithm, first_of(episodes, 2), Choice.once)
    if failure:
        raise InputError(f"This cannot be compiled: {failure}; leave --compile out.")
    probe, failures = copy.deepcopy(algorithm), dict[str, str]()
    tried = [
        replace(one, compiled=True, program=Program(one.engine, one.unfold)) for one in worth_trying(mapped, algorithm)
    ]
    seconds = []
    for one in tried:
        # A compiler can fail in many ways, and none of them should stop a run.
        least = seconds_or_never(one, probe, episodes, failures, Exception)
        if tried[1:] and one.name not in failures:  # the first run compiled
            least = min(seconds_of(one, probe, episodes) for _ in range(3))
        seconds.append(least)
    best = tried[seconds.index(min(seconds))]
    if best.name in failures:
        return replace(mapped, why=f"compiling {failures[best.name]}; {best.engine} runs without")
    compiling = sum(one.program.seconds for one in tried if one.program)
    said = f"; {in_words(tried, seconds, failures)}" if tried[1:] else ""
    return replace(best, why=f"compiled in {compiling:.1f} s{said}")
