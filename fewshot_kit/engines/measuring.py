"""`engine="auto"`: the loop and `vmap` against each other, on a copy of the algorithm."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..algorithms import Algorithm, GradientBased
from ..algorithms.modes import kept_modes
from ..checks import device_of
from ..episodes import Episode
from ..errors import KitError
from . import loop
from .choice import Choice
from .refusals import Refused

ROUNDS = 5
PATIENCE = 10.0  # seconds after which no further round begins
CLEARLY = 0.9  # of the loop's time: what vmap has to need at most, since measurements are noisy
TRIED = 16  # tasks that convolutional nets are measured on at most on a CPU
# Bytes that the convolutions of a task give: at 0.7 MB vmap was up to twice as fast as the loop, at 2 MB no faster, and
# at 2.7 MB by a third at best, for three times the memory.
LARGEST = 1_500_000


def measured(looped: Choice, algorithm: Algorithm, episodes: Episode, chunk: int | None) -> Choice:
    """The loop as given, or `vmap` where it is clearly faster and gives the same; `why` says what was found."""
    chunked = chunk is None and loop.convolutional_on_cpu(algorithm) and _adapts_convolutions(algorithm)
    if chunked and (size := _convolved(algorithm, episodes)) > LARGEST:
        said = f"its convolutions give {size / 1e6:.1f} MB a task; on a CPU vmap is tried up to {LARGEST / 1e6:.1f} MB"
        return replace(looped, why=said)
    failure = failure_of(Choice("vmap", chunk=chunk), algorithm, first_of(episodes, 2), Choice.run)
    if failure:
        return replace(looped, why=f"vmap cannot run it: {failure}")
    probe, started = copy.deepcopy(algorithm), time.perf_counter()
    mapped = [Choice("vmap", chunk=chunk)]
    if chunked:
        episodes = first_of(episodes, TRIED)
        mapped = _chunked(probe, episodes, looped.workers or 1)
    rounds: list[list[float]] = []
    while len(rounds) < ROUNDS and not (rounds and time.perf_counter() - started > PATIENCE):
        rounds.append([seconds_of(choice, probe, episodes) for choice in (looped, *mapped)])
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
        few = first_of(episodes, following)
        # The first time prepares for new shapes.
        each = min(seconds_of(Choice("vmap"), probe, few) for _ in range(3)) / following
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


def _adapts_convolutions(algorithm: Algorithm) -> bool:
    if not isinstance(algorithm, GradientBased):
        return False
    layers = [m for m in algorithm.model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d | nn.Conv3d)]
    weights = {id(parameter) for layer in layers for parameter in layer.parameters()}
    moving = algorithm.adapts()
    return any(id(p) in weights for name, p in algorithm.model.named_parameters() if name in moving)


def first_of(episodes: Episode, count: int) -> Episode:
    return Episode(*(tensor[:count] for tensor in episodes))


def seconds_of(choice: Choice, algorithm: Algorithm, episodes: Episode) -> float:
    on_gpu = device_of(algorithm).type == "cuda"
    with torch.random.fork_rng(devices=[device_of(algorithm)] if on_gpu else []):
        started = time.perf_counter()
        choice.run(algorithm, episodes)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - started


def failure_of(choice: Choice, algorithm: Algorithm, episodes: Episode, way: Callable[..., Any]) -> str | None:
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
    shorter = [tensor[:, :shown] for tensor in first_of(episodes, 2)]
    few = [tensor.double() if tensor.is_floating_point() else tensor for tensor in shorter]
    try:
        one, other = (choice.run(probe, Episode(*few)) for choice in (Choice("vmap"), Choice("loop", workers=1)))
    except (RuntimeError, KitError):  # a model may be bound to its dtype or mode: then there is nothing to compare
        return None
    pairs = [(a, b) for a, b in zip(one.gradients, other.gradients, strict=True) if a is not None and b is not None]
    apart = torch.stack([(a - b).norm() for a, b in pairs]).norm()
    size = torch.stack([b.norm() for _, b in pairs]).norm()
    return f"its gradient is {float(apart / size):.1e} off that of the loop" if apart > 1e-6 * size else None
