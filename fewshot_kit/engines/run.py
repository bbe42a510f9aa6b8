"""The one function that computes meta-gradients. The trainer, the benchmarks and the tests all call it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode
from .choice import Choice
from .misfits import check_given
from .remembered import remembered
from .results import Result, trainable
from .selection import choose


def meta_backward(
    algorithm: Algorithm,
    episodes: Episode,
    engine: str | Choice = "auto",
    chunk: int | None = None,
    workers: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Adds the mean meta-gradient of a meta-batch to every `.grad`, and updates the buffers.

    Every episode starts from the buffers as they were before the meta-batch, with any engine. Floating-point buffers,
    such as batch norm's running statistics, then move by the mean over the episodes. Counts move by the sum.

    Args:
        algorithm: the algorithm to meta-train.
        episodes: T episodes, with a leading T.
        engine: `"factored"`, `"vmap"`, `"loop"`, `"reference"` (learn2learn or higher), or a `Choice` of `choose`.
            `"auto"` measures on this meta-batch and remembers the choice for this algorithm and these shapes
            (`remembered`). So is what `"factored"` checks.
        chunk: episodes that `"factored"` or `"vmap"` runs at a time.
        workers: threads, for `"loop"` and `"vmap"`.

    Returns:
        Losses `[T]` and query scores `[T, Q, classes]`, both detached.

    Raises:
        InputError: no algorithm or no meta-batch; examples or labels that do not fit the model or each other; as
            `choose` does; the engine cannot run the model or differentiate it twice.
    """
    check_given(algorithm, episodes)
    if isinstance(engine, Choice):
        choice = engine
    elif engine in ("auto", "factored"):
        choice = remembered(algorithm, episodes, engine, chunk, workers)
    else:
        choice = choose(algorithm, episodes, engine, chunk, workers)
    result = choice.run(algorithm, episodes)
    add_mean(algorithm, result, len(result.losses))
    return result.losses, result.scores


def add_mean(algorithm: Algorithm, result: Result, count: int) -> None:
    """Adds the mean gradient of `count` episodes to every `.grad`, and moves the buffers."""
    for parameter, total in zip(trainable(algorithm), result.gradients, strict=True):
        if total is not None:
            # The gradient needs the parameter's memory layout, and the loop's copies are channels-last. A fused
            # optimiser on a CPU reads both in memory order, and would pair weights with the wrong gradients.
            mean = total / count
            if mean.stride() != parameter.stride():
                mean = torch.empty_like(parameter).copy_(mean)
            parameter.grad = mean if parameter.grad is None else parameter.grad + mean
    for name, total in result.moves.items():
        buffer = algorithm.get_buffer(name).detach()
        buffer.add_(total / count if buffer.is_floating_point() else total)
