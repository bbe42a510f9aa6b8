"""`engine="loop"`: the algorithm's own code runs one episode at a time, on each of several workers if asked for.

Convolutional nets on a CPU gain little from several threads inside an operator. They gain nearly all from workers that
run one episode each on one thread. Their convolutions are faster in channels-last memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..algorithms import Algorithm
from ..episodes import Episode, unstack
from ..modules.modes import kept_modes
from ..ranges import check_counts
from .convolutions import is_convolution
from .replicas import Copies
from .results import Result, each_alone, one_by_one
from .workers import gathered, in_order, together

Part = TypeVar("Part")


def run(algorithm: Algorithm, episodes: Episode, workers: int | None = None, copies: Copies | None = None) -> Result:
    """Returns losses, scores and summed gradients of a meta-batch, in the order of its episodes.

    Args:
        workers: how many episodes run at a time; by default `usual_workers`.
        copies: the workers' copies of the algorithm, kept from one meta-batch to the next.
    """
    return gathered(_on_workers(algorithm, episodes, workers, copies or Copies(), one_by_one))


def predict(
    algorithm: Algorithm, episodes: Episode, workers: int | None = None, copies: Copies | None = None
) -> Tensor:
    """Returns query scores `[T, Q, classes]` of a meta-batch, without a graph."""
    return in_order(_on_workers(algorithm, episodes, workers, copies or Copies(), _scores))


def _scores(algorithm: Algorithm, episodes: Sequence[Episode]) -> Tensor:
    def several(episodes: Sequence[Episode]) -> Tensor:
        with torch.no_grad():
            return torch.stack(
                [algorithm.predict(algorithm.adapt(e.support_x, e.support_y), e.query_x) for e in episodes]
            )

    return each_alone(algorithm, episodes, several, lambda parts: torch.cat(list(parts)))[0]


def usual_workers(algorithm: Algorithm) -> int:
    """Returns one worker per thread for a convolutional net on a CPU, else one.

    A net with dropout gets one worker, because dropout draws in the order of the episodes.
    """
    return torch.get_num_threads() if convolutional_on_cpu(algorithm) and not _drawing(algorithm) else 1


def convolutional_on_cpu(algorithm: Algorithm) -> bool:
    """Returns whether the algorithm has convolutions and runs on a CPU."""
    convolutional = any(is_convolution(module) for module in algorithm.modules())
    return convolutional and all(parameter.device.type == "cpu" for parameter in algorithm.parameters())


def _drawing(algorithm: Algorithm) -> bool:
    modules = algorithm.modules()
    return any(isinstance(module, _DropoutNd) and module.training and module.p > 0 for module in modules)


def _on_workers(
    algorithm: Algorithm,
    episodes: Episode,
    workers: int | None,
    copies: Copies,
    several: Callable[[Algorithm, Sequence[Episode]], Part],
) -> list[Part]:
    """Returns the result of `several` for each worker's share. Worker i of n has episodes i, i + n, i + 2n, ..."""
    if workers is not None:
        check_counts(workers=workers)
    count = min(workers or usual_workers(algorithm), len(episodes.support_x))
    convolutional = convolutional_on_cpu(algorithm)
    alone = len(episodes.support_x) == 1  # a single episode has all threads, and needs no copy of the algorithm
    if count == 1 and (alone or not convolutional):
        known, shape = copies.layouts, episodes.support_x.shape
        if convolutional and shape not in known:
            known[shape] = _takes_channels_last(algorithm, episodes)
        given = _in_channels_last(episodes) if convolutional and known[shape] else episodes
        try:
            return [several(algorithm, unstack(given))]
        except BaseException:
            copies.forget()
            raise
    each, given = copies.of(algorithm, count), episodes
    if _takes_channels_last(each[0], episodes):
        for one in each:
            one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        given = _in_channels_last(episodes)
    tasks = unstack(given)
    parts = together(each, [tasks[number::count] for number in range(count)], several, copies)
    return [several(algorithm, unstack(episodes))] if parts is None else parts


def _in_channels_last(episodes: Episode) -> Episode:
    return episodes._replace(support_x=_channels_last(episodes.support_x), query_x=_channels_last(episodes.query_x))


def _takes_channels_last(algorithm: Algorithm, episodes: Episode) -> bool:
    """Returns whether the network runs on images in channels-last memory. A `view` for the usual order fails there."""
    if episodes.support_x.dim() != 5 or not any(isinstance(module, nn.Conv2d) for module in algorithm.modules()):
        return False
    try:
        with torch.no_grad(), kept_modes(algorithm):
            algorithm.model.eval()(_channels_last(episodes.support_x[:1])[0, :2])
    except RuntimeError:
        return False
    return True


def _channels_last(x: Tensor) -> Tensor:
    """Returns images `[T, N, C, H, W]` in channels-last memory. The strides say so even for one channel."""
    n, c, h, w = x.shape[1:]
    return x.permute(0, 1, 3, 4, 2).contiguous().as_strided(x.shape, (n * c * h * w, c * h * w, 1, w * c, c))
