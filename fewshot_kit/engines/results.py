"""What an engine gives back of a meta-batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode


class Result(NamedTuple):
    """Some episodes of a meta-batch, detached."""

    losses: Tensor  # [T]
    scores: Tensor  # [T, Q, classes]
    gradients: list[Tensor | None]  # of the trainable parameters, summed over the episodes; None where none arrives
    moves: dict[str, Tensor]  # by which each episode by itself moved the buffers, summed over the episodes


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
    """The buffers are afterwards as they were; by what they were moved is then in the dictionary."""
    before = {name: buffer.detach().clone() for name, buffer in movable(algorithm).items()}
    moves: dict[str, Tensor] = {}
    try:
        yield moves
    finally:
        for name, value in before.items():
            buffer = algorithm.get_buffer(name).detach()
            if buffer.device.type == "cpu" and torch.equal(buffer, value):  # a GPU would be waited for
                moves[name] = value.zero_()
            else:
                moves[name] = move(value, buffer)
                buffer.copy_(value)


def differentiated(
    losses: Tensor, scores: Tensor, parameters: Sequence[Tensor], moves: dict[str, Tensor] | None = None
) -> Result:
    """Losses `[T]` and scores `[T, Q, classes]` with their graph -> the result without it; each `.grad` stays."""
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        # Not `autograd.grad`: it passes by, in silence, the error of a function that has no second derivative.
        losses.sum().backward()
        return Result(losses.detach(), scores.detach(), [parameter.grad for parameter in parameters], moves or {})
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def one_by_one(algorithm: Algorithm, episodes: Sequence[Episode]) -> Result:
    """Every episode by the algorithm's own `loss`, in memory that does not grow with their number."""
    parts = []
    for episode in episodes:
        with restored(algorithm) as moves:  # after the backward pass, which may need them
            loss, scores = algorithm.loss(episode)
            part = differentiated(loss[None], scores[None], trainable(algorithm))
        parts.append(part._replace(moves=moves))
        if len(parts) == 2:
            parts = [combined(parts)]
    return combined(parts)


def combined(parts: Sequence[Result]) -> Result:
    """Results of the parts of a meta-batch, in order -> that of all of it."""
    if len(parts) == 1:
        return parts[0]
    sums = [_sum([g for g in each if g is not None]) for each in zip(*(part.gradients for part in parts), strict=True)]
    losses, scores = (torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[:2])
    moves = {name: torch.stack([part.moves[name] for part in parts]).sum(0) for name in parts[0].moves}
    return Result(losses, scores, sums, moves)


def _sum(tensors: list[Tensor]) -> Tensor | None:
    return torch.stack(tensors).sum(0) if tensors else None
