"""One entry for every meta-gradient: the trainer, the benchmarks and the tests all go through it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode, unstack
from ..errors import InputError
from . import loop, reference
from .results import trainable

ENGINES = {"loop": loop.run, "reference": reference.run}


def choose(algorithm: Algorithm, engine: str = "auto") -> str:
    """The engine that a name stands for; `"auto"` takes `"loop"`, which runs every algorithm and every model.

    Raises:
        InputError: no such engine.
    """
    if engine == "auto":
        return "loop"
    if engine not in ENGINES:
        raise InputError(f"Unknown engine '{engine}'; it is one of auto, {', '.join(ENGINES)}.")
    return engine


def meta_backward(algorithm: Algorithm, episodes: Episode, engine: str = "auto") -> tuple[Tensor, Tensor]:
    """Add the mean meta-gradient of a meta-batch to every `.grad`.

    Args:
        algorithm: what is meta-trained.
        episodes: T episodes, with a leading T.
        engine: `"loop"`, `"reference"` (learn2learn or higher) or `"auto"`.

    Returns:
        Losses `[T]` and query scores `[T, Q, classes]`, both detached.
    """
    results = ENGINES[choose(algorithm, engine)](algorithm, unstack(episodes))
    for index, parameter in enumerate(trainable(algorithm)):
        slopes = [result.gradients[index] for result in results]
        arrived = [slope for slope in slopes if slope is not None]
        if arrived:
            mean = torch.stack(arrived).sum(0) / len(results)
            parameter.grad = mean if parameter.grad is None else parameter.grad + mean
    return torch.stack([result.loss for result in results]), torch.stack([result.scores for result in results])
