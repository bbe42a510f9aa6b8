"""What an engine gives back of a meta-batch."""

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
    """Some episodes of a meta-batch, detached."""

    losses: Tensor  # [T]
    scores: Tensor  # [T, Q, classes]
    gradients: list[Tensor | None]  # of the trainable parameters, summed over the episodes; None where none arrives
    moves: dict[str, Tensor]  # by what each episode by itself moved the buffers that it did, summed over the episodes


def trainable(algorithm: Algorithm) -> list[torch.nn.Parameter]:
    """The parameters that meta-training moves."""
    return [parameter for parameter in algorithm.parameters() if parameter.requires_grad]


def movable(module: torch.nn.Module) -> dict[str, Tensor]:
    """The buffers that an episode may move, as batch norm moves its running statistics; booleans are masks."""
    return {name: buffer for name, buffer in module.named_buffers() if buffer.dtype != torch.bool}


def move(before: Tensor, after: Tensor) -> Tensor:
    """From one to the other; 0 from an infinity to itself."""
    return torch.where(after == before, 0, after.detach() - before)


@contextlib.contextmanager
def restored(algorithm: Algorithm) -> Iterator[dict[str, Tensor]]:
    """The buffers are afterwards as they were; by what they were moved is then in the dictionary, if they were."""
    before = {name: buffer.detach().clone() for name, buffer in movable(algorithm).items()}
    moves: dict[str, Tensor] = {}
    try:
        yield moves
    finally:
        for name, value in before.items():
            buffer = algorithm.get_buffer(name).detach()
            if buffer.device.type != "cpu" or not torch.equal(buffer, value):  # a GPU would be waited for
                moves[name] = move(value, buffer)
                buffer.copy_(value)


@looked_for_once()
def each_alone(
    algorithm: Algorithm,
    episodes: Sequence[Episode],
    several: Callable[[Sequence[Episode]], Part],
    merged: Callable[[Sequence[Part]], Part],
) -> tuple[Part, dict[str, Tensor]]:
    """What `several` gives for all of the episodes, each of which finds the same buffers; and by what they were moved.

    A look at the buffers is many small operators, and among threads each waits for Python's lock: where the first
    episode has moved none of them, they are looked at again only after the last.
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
    """Moves of the parts of a meta-batch -> those of all of it."""
    total: dict[str, Tensor] = {}
    for each in moves:
        for name, by in each.items():
            total[name] = total[name] + by if name in total else by
    return total


@contextlib.contextmanager
def summed(parameters: Sequence[Tensor]) -> Iterator[list[Tensor | None]]:
    """What `backward` adds to each `.grad` inside is afterwards in the list, None where nothing arrived; each `.grad`
    is as it was.
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
    """Losses `[T]` and scores `[T, Q, classes]` with their graph -> the result without it; each `.grad` stays."""
    with summed(parameters) as gradients:
        # Not `autograd.grad`: it passes by, in silence, the error of a function that has no second derivative.
        losses.sum().backward()
    return Result(losses.detach(), scores.detach(), gradients, moves or {})


def one_by_one(algorithm: Algorithm, episodes: Sequence[Episode]) -> Result:
    """Every episode by the algorithm's own `loss`, in memory that does not grow with their number."""
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
    """Results of the parts of a meta-batch, in order -> that of all of it."""
    if len(parts) == 1:
        return parts[0]
    sums = [_sum([g for g in each if g is not None]) for each in zip(*(part.gradients for part in parts), strict=True)]
    losses, scores = (torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[:2])
    return Result(losses, scores, sums, added(part.moves for part in parts))


def _sum(tensors: list[Tensor]) -> Tensor | None:
    return torch.stack(tensors).sum(0) if tensors else None
