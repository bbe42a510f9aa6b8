"""Batch norm by the statistics of its batch, with a fast second derivative.

PyTorch computes the derivative of batch norm's backward by some thirty element-wise operators, which take about a third
of the time of second-order MAML on a convolutional net. The formulas here need only a few passes over the images. z is
the normalised input, r its inverse deviation, and P(g) = g - mean(g) - z mean(g z) a projection:

    backward:           dx = w r P(g)                                          dw = sum(g z)      db = sum(g)
    its own backward,   dg = w r P(u) + v z + s                                dw = r sum(u P(g))
    from (u, v, s):     dx = v r P(g) - w r^2 (mean(g z) P(u) + mean(u z) P(g) + z mean(u P(g)))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from .private import inside_transform

_forward, _backward = torch.ops.aten.native_batch_norm, torch.ops.aten.native_batch_norm_backward


def by_its_batch(layer: _BatchNorm, x: Tensor) -> Tensor:
    """Returns the layer's output in training mode, `[N, C, ...]` -> the same shape.

    The batches are not counted, and the running statistics move only if the layer tracks them.
    """
    stored = (layer.running_mean, layer.running_var) if layer.track_running_stats else (None, None)
    momentum = 0.1 if layer.momentum is None else layer.momentum  # None is the mean of all batches and needs a count
    images = x.dim() > 2 and x.device.type == "cpu" and layer.affine and x.dtype == layer.weight.dtype
    transformed = inside_transform()
    # PyTorch's operators are faster on small inputs, and they can move running statistics under `vmap`.
    if not images or not torch.is_grad_enabled() or (transformed and stored[0] is not None):
        return F.batch_norm(x, *stored, layer.weight, layer.bias, True, momentum, layer.eps)
    if x.numel() == x.shape[1]:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {list(x.shape)}")
    if transformed:
        return _OfTasks.apply(x, layer.weight, layer.bias, layer.eps)[0]  # type: ignore[no-untyped-call]
    return _ByBatch.apply(x, layer.weight, layer.bias, *stored, momentum, layer.eps)[0]  # type: ignore[no-untyped-call]


class _ByBatch(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
        *stored, momentum, eps = options
        y, mean, inverse = _forward(x, weight, bias, *stored, True, momentum, eps)
        ctx.mark_non_differentiable(mean, inverse)
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.eps = eps
        return y, mean, inverse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        g = gradients[0]
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
        # The same operator computes the sum of products r sum(u P(g)) in one pass.
        zero, one = torch.zeros_like(mean), torch.ones_like(inverse)
        both = _backward(u, g_projected, None, None, None, zero, one, True, ctx.eps, [False, True, False])[1]
        scale = weight * inverse * (x.shape[1] / x.numel())
        to_g = _of_z(x, mean, inverse, v, s).addcmul_(u_projected, _along(weight, x))
        to_x = _of_z(x, mean, inverse, -scale * both, torch.zeros_like(both))
        to_x.addcmul_(u_projected, _along(-scale * g_by_z, x)).addcmul_(g_projected, _along(v - scale * u_by_z, x))
        return to_g, to_x, both, None, None, None


class _OfTasks(torch.autograd.Function):
    """`_ByBatch` under `torch.func`: the channels of all tasks, side by side, act as channels of one layer."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        return _forward(x, weight, bias, None, None, True, 0.0, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, weight, _, ctx.eps = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(x, weight, *output[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return *_OfTasksBackward.apply(gradients[0], *ctx.saved_tensors, ctx.eps), None  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        *tensors, eps = inputs
        x, *channels = _side_by_side(info.batch_size, in_dims, tensors, 1)
        y, mean, inverse = _ByBatch.apply(x, *channels, None, None, 0.0, eps)  # type: ignore[no-untyped-call]
        return _apart(info.batch_size, [y], [mean, inverse])


class _OfTasksBackward(torch.autograd.Function):
    """`_ByBatchBackward` under `torch.func`."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        *tensors, eps = inputs
        return _ByBatchBackward.apply(*tensors, eps)  # type: ignore[no-untyped-call]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise RuntimeError("Batch norm's second derivative is taken outside of torch.func only.")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        *tensors, eps = inputs
        g, x, *channels = _side_by_side(info.batch_size, in_dims, tensors, 2)
        dx, dw, db = _ByBatchBackward.apply(g, x, *channels, eps)  # type: ignore[no-untyped-call]
        return _apart(info.batch_size, [dx], [dw, db])


def _side_by_side(tasks: int, dims: Sequence[int | None], tensors: Sequence[Tensor], images: int) -> list[Tensor]:
    """Images of all tasks -> `[N, tasks * C, ...]`; values per channel of all tasks -> `[tasks * C]`."""
    found = []
    for number, (tensor, dim) in enumerate(zip(tensors, dims[: len(tensors)], strict=True)):
        at = 1 if number < images else 0
        if dim is None:
            tensor = tensor.unsqueeze(at).expand(*tensor.shape[:at], tasks, *tensor.shape[at:])
        else:
            tensor = tensor.movedim(dim, at)
        found.append(tensor.flatten(at, at + 1))
    return found


def _apart(tasks: int, images: Sequence[Tensor], channels: Sequence[Tensor]) -> tuple[Any, Any]:
    """Undoes `_side_by_side`; returns the tensors, and the dimension of each that counts the tasks."""
    found = [x.unflatten(1, (tasks, -1)) for x in images] + [c.unflatten(0, (tasks, -1)) for c in channels]
    return tuple(found), (1,) * len(images) + (0,) * len(channels)


def _along(channels: Tensor, x: Tensor) -> Tensor:
    return channels.view([1, -1] + [1] * (x.dim() - 2))


def _of_z(x: Tensor, mean: Tensor, inverse: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """Returns factor * z + offset, per channel. `out=` gives it x's memory layout, not that of the first operand."""
    factor = factor * inverse
    return torch.addcmul(_along(offset - mean * factor, x), x, _along(factor, x), out=torch.empty_like(x))
