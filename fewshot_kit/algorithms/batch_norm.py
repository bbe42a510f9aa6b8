"""Batch norm by the statistics of its batch, with a second derivative that costs a few passes over the images.

PyTorch takes the derivative of batch norm's backward apart into some thirty element-wise operators, about a third of
the time of second-order MAML on a convolutional net. Written with the projection
P(g) = g - mean(g) - z mean(g z), z the normalised input and r its inverse deviation, all that remains is

    backward:           dx = w r P(g)                                          dw = sum(g z)      db = sum(g)
    its own backward,   dg = w r P(u) + v z + s                                dw = r sum(u P(g))
    from (u, v, s):     dx = v r P(g) - w r^2 (mean(g z) P(u) + mean(u z) P(g) + z mean(u P(g)))
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

_forward, _backward = torch.ops.aten.native_batch_norm, torch.ops.aten.native_batch_norm_backward


def by_its_batch(layer: _BatchNorm, x: Tensor) -> Tensor:
    """What the layer gives in training mode, `[N, C, ...]` -> the same shape; its batches are not counted, and its
    running statistics are moved only where it tracks them.
    """
    stored = (layer.running_mean, layer.running_var) if layer.track_running_stats else (None, None)
    momentum = 0.1 if layer.momentum is None else layer.momentum  # the mean of all batches would need their count
    images = x.dim() > 2 and x.device.type == "cpu" and layer.affine and x.dtype == layer.weight.dtype
    # `torch.func` and small inputs are served better by the operators as they are.
    if not images or not torch.is_grad_enabled() or torch._C._are_functorch_transforms_active():
        return F.batch_norm(x, *stored, layer.weight, layer.bias, True, momentum, layer.eps)
    if x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
    return _ByBatch.apply(x, layer.weight, layer.bias, *stored, momentum, layer.eps)  # type: ignore[no-untyped-call]


class _ByBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *options: Any) -> Tensor:
        *stored, momentum, eps = options
        y, mean, inverse = _forward(x, weight, bias, *stored, True, momentum, eps)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (g,) = gradients
        x, weight, mean, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():
            found = _ByBatchBackward.apply(g, x, weight, mean, inverse, ctx.eps)  # type: ignore[no-untyped-call]
        else:
            found = _backward(g, x, weight, None, None, mean, inverse, True, ctx.eps, [True] * 3)
        return *found, None, None, None, None


class _ByBatchBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Without a weight the operator gives r P(g), which the second derivative needs.
        projected, by_z, total = _backward(g, x, None, None, None, mean, inverse, True, eps, [True] * 3)
        ctx.save_for_backward(x, weight, mean, inverse, projected, by_z)
        ctx.eps = eps
        return projected * _along(weight, x), by_z, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("Batch norm's derivative is not implemented beyond the second.")
        u, v, s = gradients
        x, weight, mean, inverse, g_projected, g_by_z = ctx.saved_tensors
        u_projected, u_by_z, _ = _backward(u, x, None, None, None, mean, inverse, True, ctx.eps, [True] * 3)
        # The same operator as a sum of products in one pass: r sum(u P(g)).
        zero, one = torch.zeros_like(mean), torch.ones_like(inverse)
        both = _backward(u, g_projected, None, None, None, zero, one, True, ctx.eps, [False, True, False])[1]
        scale = weight * inverse * (x.shape[1] / x.numel())
        to_g = _of_z(x, mean, inverse, v, s).addcmul_(u_projected, _along(weight, x))
        to_x = _of_z(x, mean, inverse, -scale * both, torch.zeros_like(both))
        to_x.addcmul_(u_projected, _along(-scale * g_by_z, x)).addcmul_(g_projected, _along(v - scale * u_by_z, x))
        return to_g, to_x, both, None, None, None


def _along(channels: Tensor, x: Tensor) -> Tensor:
    return channels.view([1, -1] + [1] * (x.dim() - 2))


def _of_z(x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """factor * z + offset, per channel, in x's memory layout; without `out=` it would be that of the first operand."""
    factor = factor * inverse
    return torch.addcmul(_along(offset - mean * factor, x), x, _along(factor, x), out=torch.empty_like(x))
