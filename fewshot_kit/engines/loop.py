"""`engine="loop"`: one episode at a time, by the algorithm's own functional code."""

from __future__ import annotations

from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode


def loss(algorithm: Algorithm, episode: Episode) -> tuple[Tensor, Tensor]:
    """One episode's loss and query scores `[Q, classes]`, with a graph back to the algorithm."""
    return algorithm.loss(episode)
