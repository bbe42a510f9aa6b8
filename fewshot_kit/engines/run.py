"""One entry for every meta-gradient: the trainer, the benchmarks and the tests all go through it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode
from .choice import Choice
from .remembered import remembered
from .results import trainable
from .selection import choose


def meta_backward(
    algorithm: Algorithm,
    episodes: Episode,
    engine: str | Choice = "auto",
    chunk: int | None = None,
    workers: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Add the mean meta-gradient of a meta-batch to every `.grad`, and move the buffers that its episodes move.

    Every episode finds the buffers as they were before the meta-batch, whatever engine runs it. What is of floating
    point, such as batch norm's running statistics, then goes by the mean of the moves; a count goes by their sum.

    Args:
        algorithm: what is meta-trained.
        episodes: T episodes, with a leading T.
        engine: `"vmap"`, `"loop"`, `"reference"` (learn2learn or higher), or what `choose` gave. `"auto"` measures on
            this meta-batch and remembers for the next ones of the same shapes to the same algorithm (`remembered`).
        chunk: episodes at a time, for `"vmap"`.
        workers: threads, for `"loop"` and `"vmap"`.

    Returns:
        Losses `[T]` and query scores `[T, Q, classes]`, both detached.

    Raises:
        InputError: what `choose` refuses, or a model that the engine cannot run or differentiate twice.
    """
    if isinstance(engine, Choice):
        choice = engine
    elif engine == "auto":
        choice = remembered(algorithm, episodes, chunk, workers)
    else:
        choice = choose(algorithm, episodes, engine, chunk, workers)
    result = choice.run(algorithm, episodes)
    for parameter, total in zip(trainable(algorithm), result.gradients, strict=True):
        if total is not None:
            # In the parameter's own layout, which the loop's channels-last copies do not keep: a fused optimiser on a
            # CPU goes through the memory of both as it lies, and would step along the slopes of other weights.
            mean = torch.empty_like(parameter).copy_(total / len(result.losses))
            parameter.grad = mean if parameter.grad is None else parameter.grad + mean
    for name, total in result.moves.items():
        buffer = algorithm.get_buffer(name).detach()
        buffer.add_(total / len(result.losses) if buffer.is_floating_point() else total)
    return result.losses, result.scores
