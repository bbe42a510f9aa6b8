"""`engine="auto"`: times the loop, `vmap` and `factored` on a copy of the algorithm."""

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
from . import factored, loop
from .choice import Choice
from .convolutions import adapted, is_convolution
from .memory import UNLIMITED, fitting
from .refusals import Refused

ROUNDS = 5
PATIENCE = 10.0  # seconds after which no new round begins
FAR = 2.0  # no new round begins if every other engine takes this many times the fastest one's time
CLEARLY = 0.9  # another engine has to take less than this share of the loop's time, because measurements are noisy
TRIED = 16  # most tasks that convolutional nets are timed on, on a CPU
OFF = 1e-6  # relative difference of two gradients in float64 from which one of them is wrong
# Output bytes of a task's convolutions. At 0.7 MB, vmap was up to twice as fast as the loop. At 2 MB it was no faster,
# and at 2.7 MB it was a third faster at best, for three times the memory.
LARGEST = 1_500_000


def measured(looped: Choice, mapped: Choice, algorithm: Algorithm, episodes: Episode) -> Choice:
    """Returns the fastest of `factored`, `vmap` and the loop. `why` holds the times.

    The loop has to be clearly slower, and the other one to give the same gradients. On a GPU `vmap` is also tried with
    unfolded convolutions. On a CPU it is tried with chunks of several sizes. Nothing is tried that may need more memory
    than is free.
    """
    tasks, (most, room) = len(episodes.support_x), fitting(algorithm, episodes)
    if looped.workers and looped.workers > most:
        looped = replace(looped, workers=max(1, most))
    chunked = mapped.chunk is None and loop.convolutional_on_cpu(algorithm) and _adapts_convolutions(algorithm)
    if cut := most < min(mapped.chunk or tasks, TRIED if chunked else tasks):
        mapped = replace(mapped, chunk=most)
    if most < min(2, tasks):
        return replace(looped, why=f"no more than one episode was tried at a time for want of memory: {room}")
    probe, started = copy.deepcopy(algorithm), time.perf_counter()
    tried = _shared(mapped, algorithm, episodes)
    failure = _untried(mapped, algorithm, episodes, chunked)
    if chunked:
        episodes = first_of(episodes, TRIED)
    if not failure:
        threads = looped.workers or 1
        tried += _chunked(mapped, probe, episodes, threads, most) if chunked else worth_trying(mapped, algorithm)
    if not tried:
        return replace(looped, why=failure)
    rounds: list[list[float]] = []
    failures: dict[str, str] = {}
    while len(rounds) < ROUNDS and not (rounds and time.perf_counter() - started > PATIENCE) and not _clear(rounds):
        others = [seconds_or_never(choice, probe, episodes, failures) for choice in tried]
        rounds.append([seconds_of(looped, probe, episodes), *others])
    by_loop, *others = _least(rounds)
    said = in_words((looped, *tried), (by_loop, *others), failures)
    said = f"measured on {len(episodes.support_x)} episodes: {said}" + (f"; {room}" if cut else "")
    said += f"; {failure}" if failure else ""
    if min(others) >= CLEARLY * by_loop:
        return replace(looped, why=said)
    best = tried[others.index(min(others))]
    wrong = _disagreement(best, algorithm, episodes, most) if best.engine == "vmap" else None  # `unfit` did the other
    return replace(looped, why=f"vmap gets it wrong: {wrong}") if wrong else replace(best, why=said)


def _untried(mapped: Choice, algorithm: Algorithm, episodes: Episode, chunked: bool) -> str:
    """Returns why `vmap` is not worth trying or fails; an empty string if it is tried."""
    if chunked and (size := _convolved(algorithm, episodes)) > LARGEST:
        return f"its convolutions give {size / 1e6:.1f} MB a task; on a CPU vmap is tried up to {LARGEST / 1e6:.1f} MB"
    failure = failure_of(mapped, algorithm, first_of(episodes, 2), Choice.once)
    return f"vmap cannot run it: {failure}" if failure else ""


def _shared(mapped: Choice, algorithm: Algorithm, episodes: Episode) -> list[Choice]:
    """Returns `factored`, on all threads and, since small operators are faster so, on one; nothing if it is unfit."""
    shared = Choice("factored", chunk=mapped.chunk)
    if mapped.unfold or unfit(shared, algorithm, episodes):
        return []
    several = device_of(algorithm).type == "cpu" and torch.get_num_threads() > 1
    return [shared, *([replace(shared, workers=1)] if several else [])]


def unfit(shared: Choice, algorithm: Algorithm, episodes: Episode) -> str | None:
    """Returns why `factored` cannot run the algorithm, or None; two episodes are compared with the loop's."""
    if why := factored.unfit(algorithm, episodes):
        return why
    off = _deviation(shared, algorithm, episodes, UNLIMITED)
    if off is None:
        return "it runs in its own dtype or mode alone, so that nothing can be compared with the loop"
    return f"the model does not treat every example by itself (its gradient is {off:.1e} off)" if off > OFF else None


def faster(mapped: Choice, algorithm: Algorithm, episodes: Episode) -> Choice:
    """Returns which of `factored` and `vmap` is faster, to be compiled; `vmap` where `factored` does not apply."""
    tried = _shared(mapped, algorithm, episodes)
    if not tried or not failure_of(mapped, algorithm, first_of(episodes, 2), Choice.once):
        tried.append(mapped)
    probe = copy.deepcopy(algorithm)
    return min(tried, key=lambda choice: min(seconds_of(choice, probe, episodes) for _ in range(3)) if tried[1:] else 0)


def worth_trying(mapped: Choice, algorithm: Algorithm) -> list[Choice]:
    """Returns `mapped`, and its variant with unfolded convolutions if these adapt on a GPU."""
    on_gpu = device_of(algorithm).type == "cuda"
    more = on_gpu and not mapped.unfold and _adapts_convolutions(algorithm)
    return [mapped, replace(mapped, unfold=True)] if more else [mapped]


def in_words(choices: Sequence[Choice], seconds: Sequence[float], failures: dict[str, str]) -> str:
    """Returns a text with the time of each choice, or the reason why it failed."""
    said = (failures.get(one.name, f"{1e3 * each:.1f} ms") for one, each in zip(choices, seconds, strict=True))
    return ", ".join(f"{one.name} {each}" for one, each in zip(choices, said, strict=True))


def _least(rounds: list[list[float]]) -> list[float]:
    """Returns each choice's least time over the rounds. Other work on the machine only ever adds time."""
    return [min(column) for column in zip(*rounds, strict=True)]


def _clear(rounds: list[list[float]]) -> bool:
    """Returns whether more rounds cannot change the result. One round is too few: it includes preparations."""
    if len(rounds) < 2:
        return False
    fastest, second, *_ = sorted(_least(rounds))
    return second > FAR * fastest


def _chunked(mapped: Choice, probe: Algorithm, episodes: Episode, threads: int, most: int) -> list[Choice]:
    """Returns `vmap` with the largest chunk that was worth doubling to, and the same with a chunk on every thread.

    Convolutions with a task's own weights get faster with more tasks, up to a number that depends on the net, the task
    and the machine. Memory grows with the chunk, so a larger one is tried only if the one before it was worth it. No
    more than `most` episodes run at a time.
    """
    tasks = len(episodes.support_x)
    chunk, least = 1, math.inf
    while chunk < min(tasks, most):
        following = min(2 * chunk, tasks, most)
        few, alone = first_of(episodes, following), replace(mapped, chunk=None)
        # The first run prepares for new shapes.
        each = min(seconds_of(alone, probe, few) for _ in range(3)) / following
        if each > CLEARLY * least:
            break
        chunk, least = following, each
    found = [replace(mapped, chunk=chunk)]
    if min(threads, tasks) > 1 and most >= threads:
        found.append(replace(mapped, chunk=min(chunk, math.ceil(tasks / threads), most // threads), workers=threads))
    return found


def _convolved(algorithm: Algorithm, episodes: Episode) -> int:
    """Returns the output bytes of all convolutions for the images of one task."""
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
        choice.once(algorithm, episodes)
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
    """Returns the seconds of one run, or infinity if it fails for lack of memory or in a compiler.

    The reason goes into `failures`.
    """
    try:
        return seconds_of(choice, algorithm, episodes)
    except kind as error:
        why = error.reason if isinstance(error, Refused) else f"{type(error).__name__}: {first_line(error)}"
        failures[choice.name] = f"failed ({why})"
        return math.inf


def failure_of(choice: Choice, algorithm: Algorithm, episodes: Episode, way: Callable[..., Any]) -> str | None:
    """Returns why an engine cannot run the algorithm, or None. It leaves the algorithm and the global RNG alone."""
    probe = copy.deepcopy(algorithm)
    try:
        with kept_random(device_of(algorithm)):
            way(choice, probe, episodes)
    except Refused as error:
        return error.reason
    return None


def _disagreement(choice: Choice, algorithm: Algorithm, episodes: Episode, most: int) -> str | None:
    """Returns how the gradients of an engine and the loop differ, or None. An operator's derivative may be wrong."""
    off = _deviation(choice, algorithm, episodes, most)
    return f"its gradient is {off:.1e} off that of the loop" if off is not None and off > OFF else None


def _deviation(choice: Choice, algorithm: Algorithm, episodes: Episode, most: int) -> float | None:
    """Returns the relative difference of an engine's gradient from the loop's, on two episodes in float64.

    The trial has no more queries than support examples, so that it does not need more memory than the training. Of the
    usual dtype, `most` episodes would fit at a time. None if the model needs its own dtype or mode.
    """
    probe = copy.deepcopy(algorithm).double().eval()  # without dropout
    shown = episodes.support_x.shape[1]
    shorter = [tensor[:, :shown] for tensor in first_of(episodes, 2)]
    few = [tensor.double() if tensor.is_floating_point() else tensor for tensor in shorter]
    alone = replace(choice, chunk=None if most >= 4 else 1, workers=None)
    try:
        one, other = (each.once(probe, Episode(*few)) for each in (alone, Choice("loop", workers=1)))
    except (RuntimeError, KitError):
        return None
    pairs = [(a, b) for a, b in zip(one.gradients, other.gradients, strict=True) if a is not None and b is not None]
    apart = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    size = torch.stack([b.norm() for _, b in pairs]).norm()
    return float(apart / size) if size else float(apart)
