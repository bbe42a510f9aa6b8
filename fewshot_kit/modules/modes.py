"""How modules run while a task is adapted: batch-norm policy, and paths that can be differentiated twice."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ..errors import InputError
from .batch_norm_gradient import by_its_batch
from .layers import batch_norms, layers

BatchNorm = Literal["transductive", "support", "running"]


def check_policy(model: nn.Module, policy: str) -> None:
    """Raises `InputError` for a policy that does not exist, or one that the model's layers cannot follow."""
    if policy not in get_args(BatchNorm):
        raise InputError(f"batch_norm is '{policy}'; it is one of {', '.join(get_args(BatchNorm))}.")
    bare = [name for name, layer in batch_norms(model).items() if layer.running_mean is None]
    if policy == "running" and bare:
        raise InputError(
            f"The batch norm '{bare[0]}' keeps no running statistics, which batch_norm='running' needs; "
            "make it with track_running_stats=True, or take batch_norm='transductive' or 'support'."
        )


def usual_policy(model: nn.Module) -> BatchNorm:
    """Where a network's batch norm is best asked by somebody who knows nothing more of it.

    `running` where every layer has stored statistics that some training moved. Where none has, the stored ones are of
    no use, as in a network that was never trained or was meta-trained on batch statistics: then `support`.
    """
    normalising = batch_norms(model).values()
    return "running" if all(_has_moved(layer) for layer in normalising) else "support"


def _has_moved(layer: _BatchNorm) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and bool((mean != 0).any() or (variance != 1).any())


def never_trained(model: nn.Module) -> bool:
    """Whether a network has batch norms, and all are as they were made: any training moves their scales or shifts.

    A network without any does not tell.
    """
    layers = list(batch_norms(model).values())
    return bool(layers) and not any(_has_moved(layer) or _is_tuned(layer) for layer in layers)


def _is_tuned(layer: _BatchNorm) -> bool:
    return layer.affine and bool((layer.weight != 1).any() or (layer.bias != 0).any())


def looks_at_the_batch(model: nn.Module, policy: str) -> bool:
    """Whether batch norm makes the result of an example depend on those beside it."""
    return policy == "transductive" and bool(batch_norms(model))


@contextlib.contextmanager
def _attributes(changes: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(owner, name, vars(owner).get(name, _attributes)) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            if value is _attributes:  # the instance had none of its own: the class's shows again
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
def running(model: nn.Module, *, batch_statistics: bool, moving: bool = False) -> Iterator[None]:
    """Run batch norm on the statistics of its own batch, or on the stored ones, whatever mode the model is in.

    Args:
        moving: let each batch move the stored ones, as PyTorch does in training; otherwise nothing of a task is kept.
    """
    normalising = batch_norms(model).values()
    changes: list[tuple[Any, str, Any]] = [(m, "training", batch_statistics) for m in normalising]
    # cuDNN differentiates a recurrent layer only in training mode; without dropout the mode has no other effect.
    changes += [(m, "training", True) for m in layers(model).recurrent if not m.dropout]
    if batch_statistics and not moving:
        changes += [(m, "track_running_stats", False) for m in normalising]
    with _attributes(changes):
        yield


@contextlib.contextmanager
def by_the_batch(model: nn.Module, *, moving: bool = False) -> Iterator[None]:
    """`running(model, batch_statistics=True)`, with batch norm's cheaper second derivative."""
    plain = [m for m in batch_norms(model).values() if type(m).forward is _BatchNorm.forward]
    with (
        running(model, batch_statistics=True, moving=moving),
        _attributes([(layer, "forward", functools.partial(by_its_batch, layer)) for layer in plain]),
    ):
        yield


# Name of a batch-norm layer -> mean and biased variance per channel, for each time that the layer is run.
Statistics = dict[str, list[tuple[Tensor, Tensor]]]


@contextlib.contextmanager
def _hooked(hooks: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def collected(model: nn.Module) -> Iterator[Statistics]:
    """The statistics of what enters each batch norm inside, as tensors with a graph."""
    found: Statistics = {name: [] for name in batch_norms(model)}

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            over = [d for d in range(inputs[0].dim()) if d != 1]
            found[name].append((inputs[0].mean(over), inputs[0].var(over, unbiased=False)))

        return hook

    with _hooked([layer.register_forward_pre_hook(look(name)) for name, layer in batch_norms(model).items()]):
        yield found


@contextlib.contextmanager
def normalised_by(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Batch norm inside uses these statistics, and is differentiated with respect to them too: `F.batch_norm` would
    take stored ones for constants, and meta-training would follow a wrong gradient.
    """

    def use(name: str) -> Callable[..., Tensor]:
        times = iter(statistics[name])

        def hook(layer: _BatchNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
            x, (mean, variance) = inputs[0], next(times)
            shape = [1, -1] + [1] * (x.dim() - 2)
            x = (x - mean.view(shape)) / (variance.view(shape) + layer.eps).sqrt()
            return x * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else x

        return hook

    with _hooked([layer.register_forward_hook(use(name)) for name, layer in batch_norms(model).items()]):
        yield


@contextlib.contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Keep to kernels that have a second derivative: neither fused attention nor cuDNN's recurrent layers has one."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH))
        if layers(model).recurrent:
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
