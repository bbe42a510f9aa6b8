"""Contexts that set how modules run during adaptation: attributes, modes, and kernels with a second derivative."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .layers import layers


@contextlib.contextmanager
def attributes(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Context in which attributes have other values; each change is `(owner, name, value)`."""
    before = [(owner, name, vars(owner).get(name, attributes)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is attributes:  # the instance had no value of its own, so the class's applies again
                delattr(owner, name)
            else:
                setattr(owner, name, value)


@contextlib.contextmanager
def kept_modes(module: nn.Module) -> Iterator[None]:
    """Context after which every submodule's train / eval flag is as it was before."""
    modes = [(m, m.training) for m in module.modules()]
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


@contextlib.contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Context without fused attention and cuDNN's recurrent layers, which have no second derivative."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if layers(model).recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
