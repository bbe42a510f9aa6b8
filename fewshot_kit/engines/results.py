"""What an engine gives back of each episode."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..algorithms import Algorithm


class Result(NamedTuple):
    """One episode, detached."""

    loss: Tensor
    scores: Tensor  # [Q, classes]
    gradients: list[Tensor | None]  # of the trainable parameters, in their order; None where none arrives


def trainable(algorithm: Algorithm) -> list[torch.nn.Parameter]:
    """The parameters that meta-training moves."""
    return [parameter for parameter in algorithm.parameters() if parameter.requires_grad]


def gradients(algorithm: Algorithm, loss: Tensor) -> list[Tensor | None]:
    """The slope of `loss` with respect to every trainable parameter."""
    return list(torch.autograd.grad(loss, trainable(algorithm), allow_unused=True))
