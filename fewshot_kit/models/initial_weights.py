"""Seeded initial weights of the networks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import nn

from ..seeds import default_draws

_filled_later = ContextVar("filled_later", default=False)


@contextlib.contextmanager
def initial_weights(seed: int | None) -> Iterator[None]:
    """Context in which the initial weights of modules depend on `seed` alone; the global RNG stays as it was.

    The weights are drawn on the CPU, so that a seed gives the same weights on every machine. For None, they are drawn
    as those of any `nn.Module`: from the global RNG, on the default device.
    """
    if seed is None:
        yield
        return
    with default_draws(seed, "initial weights"), torch.device("cpu"):
        yield


def he_normal(network: nn.Module) -> None:
    """Draws the convolutions' weights from a normal distribution of variance 2 / (kernel area * output channels).

    He et al. 2015, https://arxiv.org/abs/1502.01852.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@contextlib.contextmanager
def filled_later() -> Iterator[None]:
    """Context in which no pretrained weights are downloaded, since a checkpoint will fill the networks."""
    token = _filled_later.set(True)
    try:
        yield
    finally:
        _filled_later.reset(token)


def to_be_filled() -> bool:
    """Returns whether the code runs inside `filled_later`."""
    return _filled_later.get()
