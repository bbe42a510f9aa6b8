"""One entry for every meta-gradient: the trainer, the benchmarks and the tests all go through it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode, unstack
from ..errors import InputError
from . import loop, reference

ENGINES = {"loop": loop.loss, "reference": reference.loss}


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
    run = ENGINES[choose(algorithm, engine)]
    tasks = unstack(episodes)
    losses, scores = [], []
    for task in tasks:
        loss, score = run(algorithm, task)
        (loss / len(tasks)).backward()
        losses.append(loss.detach())
        scores.append(score.detach())
    return torch.stack(losses), torch.stack(scores)
