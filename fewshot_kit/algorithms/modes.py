"""How modules run while a task is adapted: batch-norm policy, and paths that can be differentiated twice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import InputError

BatchNorm = Literal["transductive", "support", "running"]


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The model's batch-norm layers by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}


def check_policy(model: nn.Module, policy: str) -> None:
    """Raises `InputError` for a policy that does not exist, or one that the model's layers cannot follow."""
    if policy not in get_args(BatchNorm):
        raise InputError(f"batch_norm is '{policy}'; it is one of {', '.join(get_args(BatchNorm))}.")
    bare = [name for name, layer in batch_norms(model).items() if layer.running_mean is None]
    if policy != "transductive" and bare:
        raise InputError(
            f"The batch norm '{bare[0]}' keeps no running statistics, which batch_norm='{policy}' needs; "
            "make it with track_running_stats=True, or take batch_norm='transductive'."
        )


@contextlib.contextmanager
def _attributes(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@contextlib.contextmanager
def kept_modes(module: nn.Module) -> Iterator[None]:
    """Leave every submodule's train / eval flag as it was."""
    with _attributes([(m, "training", m.training) for m in module.modules()]):
        yield


@contextlib.contextmanager
def running(model: nn.Module, *, batch_statistics: bool, keep_statistics: bool = False) -> Iterator[None]:
    """Run batch norm on the statistics of its own batch, or on the stored ones, whatever mode the model is in.

    Args:
        batch_statistics: normalise by the batch; otherwise by the running statistics.
        keep_statistics: let this batch's statistics replace the running ones, in the buffers handed in.
    """
    changes: list[tuple[Any, str, Any]] = []
    for layer in batch_norms(model).values():
        changes.append((layer, "training", batch_statistics))
        if keep_statistics:
            changes.append((layer, "momentum", 1.0))
    # cuDNN differentiates a recurrent layer only in training mode; without dropout the mode has no other effect.
    changes += [(m, "training", True) for m in model.modules() if isinstance(m, nn.RNNBase) and not m.dropout]
    with _attributes(changes):
        yield


@contextlib.contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Keep to kernels that have a second derivative: neither fused attention nor cuDNN's recurrent layers has one."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
