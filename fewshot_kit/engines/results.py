"""The results of engines: losses, scores, gradients and moved buffers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode
from ..modules.layers import looked_for_once

Part = TypeVar("Part")


class Result(NamedTuple):
    """The detached results of some episodes of a meta-batch."""

    losses: Tensor  # [T]
    scores: Tensor  # [T, Q, classes]
    gradients: list[Tensor | None]  # of trainable parameters, summed over episodes; None: the loss does not reach it
    moves: dict[str, Tensor]  # how far each episode alone moved the buffers, summed over episodes


def trainable(algorithm: Algorithm) -> list[torch.nn.Parameter]:
    """Returns the parameters that meta-training moves."""
    return [parameter for parameter in algorithm.parameters() if parameter.requires_grad]


def movable(module: torch.nn.Module) -> dict[str, Tensor]:
    """Returns the buffers that an episode may move, such as running statistics. Boolean buffers are masks."""
    return {name: buffer for name, buffer in module.named_buffers() if buffer.dtype != torch.bool}


def move(before: Tensor, after: Tensor) -> Tensor:
    """Returns `after - before`, and 0 for equal infinities."""
    return torch.where(after == before, 0, after.detach() - before)


@contextlib.contextmanager
def restored(algorithm: Algorithm) -> Iterator[dict[str, Tensor]]:
    """Restores the buffers at the end. The dictionary then holds how far each one was moved."""
    before = {name: buffer.detach().clone() for name, buffer in movable(algorithm).items()}
    moves: dict[str, Tensor] = {}
    try:
        yield moves
    finally:
        for name, value in before.items():
            buffer = algorithm.get_buffer(name).detach()
            if buffer.device.type != "cpu" or not torch.equal(buffer, value):  # comparing would wait for a GPU
                moves[name] = move(value, buffer)
                buffer.copy_(value)


@looked_for_once()
def each_alone(
    algorithm: Algorithm,
    episodes: Sequence[Episode],
    several: Callable[[Sequence[Episode]], Part],
    merged: Callable[[Sequence[Part]], Part],
) -> tuple[Part, dict[str, Tensor]]:
    """Returns the result of `several` for all episodes, each from the same buffers, and the moves of the buffers.

    Comparing the buffers takes many small operators, each of which waits for Python's lock if there are threads. If the
    first episode moves no buffer, they are compared only once more, after the last episode.
    """
    with restored(algorithm) as moves:
        found = several(episodes[:1])
    if len(episodes) == 1:
        return found, moves
    if not moves:
        with restored(algorithm) as later:
            others = several(episodes[1:])
        if not later:
            return merged([found, others]), {}
    for episode in episodes[1:]:
        with restored(algorithm) as its:
            found = merged([found, several([episode])])
        moves = added([moves, its])
    return found, moves


def added(moves: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Returns the sum of the moves of all parts of a meta-batch."""
    total: dict[str, Tensor] = {}
    for each in moves:
        for name, by in each.items():
            total[name] = total[name] + by if name in total else by
    return total


@contextlib.contextmanager
def summed(parameters: Sequence[Tensor]) -> Iterator[list[Tensor | None]]:
    """Collects what `backward` adds to each `.grad` inside, and restores each `.grad` at the end.

    The list is filled at the end, with None for a parameter that no gradient reached.
    """
    before, gradients = [parameter.grad for parameter in parameters], []  # type: ignore[var-annotated]
    for parameter in parameters:
        parameter.grad = None
    try:
        yield gradients
        gradients += [parameter.grad for parameter in parameters]
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def differentiated(
    losses: Tensor, scores: Tensor, parameters: Sequence[Tensor], moves: dict[str, Tensor] | None = None
) -> Result:
    """Returns the result for losses `[T]` and scores `[T, Q, classes]` with a graph. It leaves each `.grad` alone."""
    with summed(parameters) as gradients:
        # `autograd.grad` would silently skip the error of a function without a second derivative.
        losses.sum().backward()
    return Result(losses.detach(), scores.detach(), gradients, moves or {})


def one_by_one(algorithm: Algorithm, episodes: Sequence[Episode]) -> Result:
    """Runs every episode through the algorithm's `loss`, in memory that does not grow with their number."""
    parameters = trainable(algorithm)

    def several(episodes: Sequence[Episode]) -> Result:
        pairs = []
        with summed(parameters) as gradients:
            for episode in episodes:
                loss, scores = algorithm.loss(episode)
                loss.backward()
                pairs.append((loss.detach(), scores.detach()))
        losses, scores = (torch.stack(tensors) for tensors in zip(*pairs, strict=True))
        return Result(losses, scores, gradients, {})

    found, moves = each_alone(algorithm, episodes, several, combined)
    return found._replace(moves=moves)


def combined(parts: Sequence[Result]) -> Result:
    """Returns the result of a meta-batch from the results of its parts, in order."""
    if len(parts) == 1:
        return parts[0]
    sums = [_sum([g for g in each if g is not None]) for each in zip(*(part.gradients for part in parts), strict=True)]
    losses, scores = (torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[:2])
    return Result(losses, scores, sums, added(part.moves for part in parts))


def _sum(tensors: list[Tensor]) -> Tensor | None:
    return torch.stack(tensors).sum(0) if tensors else None
