"""What making any of the networks shares: seeded initial weights."""

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
    """Modules made inside start from weights that `seed` alone decides; the global RNG is left as it was.

    The weights are drawn on the CPU, so that a seed means the same on every machine. With None they are drawn as
    those of any `nn.Module`: from the global RNG, on the default device.
    """
    if seed is None:
        yield
        return
    with default_draws(seed, "initial weights"), torch.device("cpu"):
        yield


def he_normal(network: nn.Module) -> None:
    """Draw the convolutions' weights as He et al. 2015 (https://arxiv.org/abs/1502.01852) do: a normal distribution of
    variance 2 / (kernel area * output channels).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@contextlib.contextmanager
def filled_later() -> Iterator[None]:
    """Networks made inside get their weights from a checkpoint: pretrained ones are not fetched for them."""
    token = _filled_later.set(True)
    try:
        yield
    finally:
        _filled_later.reset(token)


def to_be_filled() -> bool:
    """Whether this is inside `filled_later`."""
    return _filled_later.get()
