"""`engine="auto"`: the loop and `vmap` against each other, on a copy of the algorithm."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from ..algorithms import Algorithm
from ..episodes import Episode
from ..errors import KitError, first_line
from ..modules.modes import kept_modes
from ..modules.place import device_of
from ..seeds import kept_random
from . import loop
from .choice import Choice
from .convolutions import adapted, is_convolution
from .refusals import Refused

ROUNDS = 5
PATIENCE = 10.0  # seconds after which no further round begins
FAR = 2.0  # as many times the other's time, after which no further round begins either
CLEARLY = 0.9  # of the loop's time: what vmap has to need at most, since measurements are noisy
TRIED = 16  # tasks that convolutional nets are measured on at most on a CPU
# Bytes that the convolutions of a task give: at 0.7 MB vmap was up to twice as fast as the loop, at 2 MB no faster, and
# at 2.7 MB by a third at best, for three times the memory.
LARGEST = 1_500_000


def measured(looped: Choice, mapped: Choice, algorithm: Algorithm, episodes: Episode) -> Choice:
    """The loop as given, or `vmap` as given where it is clearly faster and gives the same; `why` says what was found.

    On a GPU `vmap` is tried with convolutions unfolded, too, and on a CPU with as many chunks as are worth it.
    """
    chunked = mapped.chunk is None and loop.convolutional_on_cpu(algorithm) and _adapts_convolutions(algorithm)
    if chunked and (size := _convolved(algorithm, episodes)) > LARGEST:
        said = f"its convolutions give {size / 1e6:.1f} MB a task; on a CPU vmap is tried up to {LARGEST / 1e6:.1f} MB"
        return replace(looped, why=said)
    failure = failure_of(mapped, algorithm, first_of(episodes, 2), Choice.run)
    if failure:
        return replace(looped, why=f"vmap cannot run it: {failure}")
    probe, started = copy.deepcopy(algorithm), time.perf_counter()
    tried = worth_trying(mapped, algorithm)
    if chunked:
        episodes = first_of(episodes, TRIED)
        tried = _chunked(mapped, probe, episodes, looped.workers or 1)
    rounds: list[list[float]] = []
    failures: dict[str, str] = {}
    while len(rounds) < ROUNDS and not (rounds and time.perf_counter() - started > PATIENCE) and not _clear(rounds):
        by_vmap = [seconds_or_never(choice, probe, episodes, failures) for choice in tried]
        rounds.append([seconds_of(looped, probe, episodes), *by_vmap])
    by_loop, *by_vmap = _least(rounds)
    said = in_words((looped, *tried), (by_loop, *by_vmap), failures)
    said = f"measured on {len(episodes.support_x)} episodes: {said}"
    if min(by_vmap) >= CLEARLY * by_loop:
        return replace(looped, why=said)
    best = tried[by_vmap.index(min(by_vmap))]
    wrong = _disagreement(best, algorithm, episodes)
    return replace(looped, why=f"vmap gets it wrong: {wrong}") if wrong else replace(best, why=said)


def worth_trying(mapped: Choice, algorithm: Algorithm) -> list[Choice]:
    """That one; on a GPU and where convolutions adapt, with these unfolded too."""
    on_gpu = device_of(algorithm).type == "cuda"
    more = on_gpu and not mapped.unfold and _adapts_convolutions(algorithm)
    return [mapped, replace(mapped, unfold=True)] if more else [mapped]


def in_words(choices: Sequence[Choice], seconds: Sequence[float], failures: dict[str, str]) -> str:
    """How long each has taken, or why it has failed."""
    said = (failures.get(one.name, f"{1e3 * each:.1f} ms") for one, each in zip(choices, seconds, strict=True))
    return ", ".join(f"{one.name} {each}" for one, each in zip(choices, said, strict=True))


def _least(rounds: list[list[float]]) -> list[float]:
    """Of each one's rounds the least: other work on the machine only ever adds."""
    return [min(column) for column in zip(*rounds, strict=True)]


def _clear(rounds: list[list[float]]) -> bool:
    """Whether more rounds would not change anything. In the first one, whoever comes first prepares for all."""
    if len(rounds) < 2:
        return False
    by_loop, *by_vmap = _least(rounds)
    return min(by_vmap) > FAR * by_loop or (len(by_vmap) == 1 and by_loop > FAR * by_vmap[0])


def _chunked(mapped: Choice, probe: Algorithm, episodes: Episode, threads: int) -> list[Choice]:
    """`vmap` in the largest chunks that were worth doubling them, and such chunks on every thread.

    Convolutions that differ by task gain from more of them up to a size that depends on the net, the task and the
    machine. Memory grows with the chunk: a larger one is tried only where the one before it was worth it.
    """
    tasks = len(episodes.support_x)
    chunk, least = 1, math.inf
    while chunk < tasks:
        following = min(2 * chunk, tasks)
        few = first_of(episodes, following)
        # The first time prepares for new shapes.
        each = min(seconds_of(mapped, probe, few) for _ in range(3)) / following
        if each > CLEARLY * least:
            break
        chunk, least = following, each
    found = [replace(mapped, chunk=chunk)]
    if min(threads, tasks) > 1:
        found.append(replace(mapped, chunk=min(chunk, math.ceil(tasks / threads)), workers=threads))
    return found


def _convolved(algorithm: Algorithm, episodes: Episode) -> int:
    """Bytes that the convolutions give for the images of one task."""
    sizes: list[int] = []
    layers = filter(is_convolution, algorithm.model.modules())
    hooks = [layer.register_forward_hook(lambda _, inputs, output: sizes.append(output.nbytes)) for layer in layers]
    try:
        with torch.no_grad(), kept_modes(algorithm), kept_random(device_of(algorithm)):
            algorithm.model.eval()(torch.cat([episodes.support_x[0], episodes.query_x[0]]))
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes)


def _adapts_convolutions(algorithm: Algorithm) -> bool:
    return adapted(algorithm.model, algorithm.adapts())


def first_of(episodes: Episode, count: int) -> Episode:
    return Episode(*(tensor[:count] for tensor in episodes))


def seconds_of(choice: Choice, algorithm: Algorithm, episodes: Episode) -> float:
    device = device_of(algorithm)
    with kept_random(device):
        started = time.perf_counter()
        choice.run(algorithm, episodes)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started


def seconds_or_never(
    choice: Choice,
    algorithm: Algorithm,
    episodes: Episode,
    failures: dict[str, str],
    kind: type[Exception] = Refused,
) -> float:
    """Infinity, and in `failures` why, where so many tasks are too much memory, or a compiler fails."""
    try:
        return seconds_of(choice, algorithm, episodes)
    except kind as error:
        why = error.reason if isinstance(error, Refused) else f"{type(error).__name__}: {first_line(error)}"
        failures[choice.name] = f"failed ({why})"
        return math.inf


def failure_of(choice: Choice, algorithm: Algorithm, episodes: Episode, way: Callable[..., Any]) -> str | None:
    """Why an engine cannot run it, or None; the algorithm and the random numbers are left as they were."""
    probe = copy.deepcopy(algorithm)
    try:
        with kept_random(device_of(algorithm)):
            way(choice, probe, episodes)
    except Refused as error:
        return error.reason
    return None


def _disagreement(mapped: Choice, algorithm: Algorithm, episodes: Episode) -> str | None:
    """Whether `vmap` and `loop` differ, on two episodes in float64: some operator's derivative may be wrong in one.

    No more queries than support examples take part: the trial is not to need more memory than the training.
    """
    probe = copy.deepcopy(algorithm).double().eval()  # without dropout
    shown = episodes.support_x.shape[1]
    shorter = [tensor[:, :shown] for tensor in first_of(episodes, 2)]
    few = [tensor.double() if tensor.is_floating_point() else tensor for tensor in shorter]
    alone = replace(mapped, chunk=None, workers=None)
    try:
        one, other = (choice.run(probe, Episode(*few)) for choice in (alone, Choice("loop", workers=1)))
    except (RuntimeError, KitError):  # a model may be bound to its dtype or mode: then there is nothing to compare
        return None
    pairs = [(a, b) for a, b in zip(one.gradients, other.gradients, strict=True) if a is not None and b is not None]
    apart = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    size = torch.stack([b.norm() for _, b in pairs]).norm()
    return f"its gradient is {float(apart / size):.1e} off that of the loop" if apart > 1e-6 * size else None
