"""`engine="vmap"`: `torch.func` runs all episodes of a meta-batch at once, or in chunks that bound memory.

Workers help convolutional nets on a CPU. Half of their time goes into other operators than convolutions, and two
threads do these faster on two chunks than on one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..algorithms import Algorithm
from ..episodes import Episode
from ..modules.layers import looked_for_once
from .operators import Operators
from .replicas import Copies
from .results import Result, combined, differentiated, movable, move, trainable
from .workers import gathered, together


def run(
    algorithm: Algorithm,
    episodes: Episode,
    chunk: int | None = None,
    workers: int | None = None,
    copies: Copies | None = None,
    unfold: bool = False,
) -> Result:
    """Returns losses, scores and summed gradients of a meta-batch, in the order of its episodes.

    Args:
        chunk: episodes that each worker runs at a time; None runs all of its share.
        workers: threads; by default one thread runs one chunk after another.
        copies: the workers' copies of the algorithm, kept from one meta-batch to the next.
        unfold: run 2D convolutions as matrix products.
    """
    count = min(workers or 1, len(episodes.support_x))
    if count > 1:
        copies = copies or Copies()
        shares = [Episode(*(tensor[number::count] for tensor in episodes)) for number in range(count)]
        several = functools.partial(_run, chunk=chunk, unfold=unfold)
        parts = together(copies.of(algorithm, count), shares, several, copies)
        if parts is not None:
            return gathered(parts)
    return _run(algorithm, episodes, chunk, unfold)


def _run(algorithm: Algorithm, episodes: Episode, chunk: int | None, unfold: bool) -> Result:
    parts: list[Result] = []
    for part in chunks(episodes, chunk):
        (losses, scores), moves = vectorised(Losses(algorithm), part, {}, unfold)
        parts = [combined([*parts, differentiated(losses, scores, trainable(algorithm), moves)])]
    return parts[0]


def predict(algorithm: Algorithm, episodes: Episode, chunk: int | None = None, unfold: bool = False) -> Tensor:
    """Returns query scores `[T, Q, classes]` of a meta-batch, without a graph."""
    with torch.no_grad():
        parts = [vectorised(_Scores(algorithm), part, {}, unfold)[0] for part in chunks(episodes, chunk)]
        return torch.cat(parts)


def chunks(episodes: Episode, chunk: int | None) -> Iterator[Episode]:
    """Splits a meta-batch into parts of at most `chunk` episodes."""
    size = chunk or len(episodes.support_x)
    return (Episode(*parts) for parts in zip(*(tensor.split(size) for tensor in episodes), strict=True))


class Losses(nn.Module):
    """An algorithm's `loss` as a module, so that `functional_call` can replace its tensors."""

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.algorithm = algorithm

    def forward(self, episode: Episode) -> tuple[Tensor, Tensor]:
        return self.algorithm.loss(episode)


class _Scores(nn.Module):
    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.algorithm = algorithm

    def forward(self, episode: Episode) -> Tensor:
        state = self.algorithm.adapt(episode.support_x, episode.support_y)
        return self.algorithm.predict(state, episode.query_x)


@looked_for_once()
def vectorised(
    module: Losses | _Scores, episodes: Episode, tensors: dict[str, Tensor], unfold: bool = False
) -> tuple[Any, dict[str, Tensor]]:
    """Returns the module's results for all episodes, and the summed moves of the algorithm's buffers.

    Args:
        tensors: replacements for parameters and buffers, by name.
    """
    before = {name: tensors.get(name, buffer) for name, buffer in module.named_buffers()}
    # A buffer that is written to needs as many copies as there are episodes.
    copies = {name: torch.stack([buffer] * len(episodes.support_x)) for name, buffer in before.items()}

    def one(buffers: dict[str, Tensor], episode: Episode) -> tuple[Any, dict[str, Tensor]]:
        given = {**tensors, **buffers}
        with Operators(unfold):
            found = functional_call(module, given, (episode,))
        return found, {name: given[name].detach() for name in buffers}

    found, after = vmap(one, randomness="different")(copies, episodes)
    names = movable(module.algorithm)
    return found, {name: move(before[f"algorithm.{name}"], after[f"algorithm.{name}"]).sum(0) for name in names}
