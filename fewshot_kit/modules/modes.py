"""How modules run while a task is adapted: their modes, and paths that can be differentiated twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .layers import layers


@contextlib.contextmanager
def attributes(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    """Inside, owners have other values under these names: `(owner, name, value)`."""
    before = [(owner, name, vars(owner).get(name, attributes)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is attributes:  # the instance had none of its own: the class's shows again
                delattr(owner, name)
            else:
                setattr(owner, name, value)


@contextlib.contextmanager
def kept_modes(module: nn.Module) -> Iterator[None]:
    """Leave every submodule's train / eval flag as it was."""
    modes = [(m, m.training) for m in module.modules()]
    try:
        yield
    finally:
        for each, mode in modes:
            each.training = mode


@contextlib.contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Keep to kernels that have a second derivative: neither fused attention nor cuDNN's recurrent layers has one."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if layers(model).recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
