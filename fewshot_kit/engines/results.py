"""What an engine gives back of a meta-batch."""

from __future__ import annotations

from collections.abc import Sequence
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


def trainable(algorithm: Algorithm) -> list[torch.nn.Parameter]:
    """The parameters that meta-training moves."""
    return [parameter for parameter in algorithm.parameters() if parameter.requires_grad]


def differentiated(losses: Tensor, scores: Tensor, parameters: Sequence[Tensor]) -> Result:
    """Losses `[T]` and scores `[T, Q, classes]` with their graph -> the result without it; each `.grad` stays."""
    before = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    try:
        # Not `autograd.grad`: it passes by, in silence, the error of a function that has no second derivative.
        losses.sum().backward()
        return Result(losses.detach(), scores.detach(), [parameter.grad for parameter in parameters])
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


def one_by_one(algorithm: Algorithm, episodes: Sequence[Episode]) -> Result:
    """Every episode by the algorithm's own `loss`, in memory that does not grow with their number."""
    parts = []
    for episode in episodes:
        loss, scores = algorithm.loss(episode)
        parts.append(differentiated(loss[None], scores[None], trainable(algorithm)))
        if len(parts) == 2:
            parts = [combined(parts)]
    return combined(parts)


def combined(parts: Sequence[Result]) -> Result:
    """Results of the parts of a meta-batch, in order -> that of all of it."""
    if len(parts) == 1:
        return parts[0]
    sums = [_sum([g for g in each if g is not None]) for each in zip(*(part.gradients for part in parts), strict=True)]
    losses, scores = (torch.cat(tensors) for tensors in list(zip(*parts, strict=True))[:2])
    return Result(losses, scores, sums)


def _sum(tensors: list[Tensor]) -> Tensor | None:
    return torch.stack(tensors).sum(0) if tensors else None
