"""Batch, instance and layer norm from plain operators, for `vmap`.

PyTorch's fused norms silently give a wrong second derivative if the vectorised loss is differentiated from outside: the
saved mean and deviation count as constants there. PyTorch 2.13 had errors of a percent and more. Norms that are built
from means and squares are right.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def centred_by(x: Tensor, over: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns x without its mean, the mean and the biased variance over these dimensions, which are kept.

    PyTorch's `var_mean` takes a hundred times as long on small batches of tasks.
    """
    mean = x.mean(over, keepdim=True)
    x = x - mean
    return x, mean, x.square().mean(over, keepdim=True)


def _normalised(
    x: Tensor, over: list[int], shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    x, mean, variance = centred_by(x, over)
    x = x * torch.rsqrt(variance + eps)
    x = x if weight is None else x * weight.view(shape)
    return x if bias is None else x + bias.view(shape), mean, variance


def _channels(x: Tensor) -> list[int]:
    return [1, -1] + [1] * (x.dim() - 2)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Computes `F.batch_norm`. The fused one runs if the statistics do not come from the batch."""
    count = input.numel() // input.shape[1]
    if not training or count == 1:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    over = [d for d in range(input.dim()) if d != 1]
    x, mean, variance = _normalised(input, over, _channels(input), weight, bias, eps)
    if running_mean is not None and running_var is not None:
        running_mean.mul_(1 - momentum).add_(momentum * mean.detach().flatten())
        running_var.mul_(1 - momentum).add_(momentum * count / (count - 1) * variance.detach().flatten())
    return x


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Computes `F.instance_norm`. The fused one runs if there are running statistics."""
    if not use_input_stats or running_mean is not None:
        return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
    return _normalised(input, list(range(2, input.dim())), _channels(input), weight, bias, eps)[0]


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> Tensor:
    """Computes `F.layer_norm`."""
    over = list(range(input.dim() - len(normalized_shape), input.dim()))
    return _normalised(input, over, normalized_shape, weight, bias, eps)[0]
