"""Runs a model on the examples of all tasks at once, with linear layers and norms that each task has adapted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .norms import centred_by


class Moved(NamedTuple):
    """How far the steps so far have moved a linear layer of each task, before the rate."""

    inputs: Tensor | None = None  # `[T, R, in]`, of all steps below each other
    slopes: Tensor | None = None  # `[T, R, out]`
    weight: Tensor | None = None  # `[T, out, in]`, of earlier steps, once that is the smaller
    bias: Tensor | None = None  # `[T, 1, out]`

    def further(self, inputs: Tensor, slopes: Tensor) -> Moved:
        """Returns the sum with one more step's."""
        if self.inputs is not None and self.slopes is not None:
            if _same(self.inputs, inputs):
                slopes = self.slopes + slopes
            else:
                inputs, slopes = torch.cat([self.inputs, inputs], 1), torch.cat([self.slopes, slopes], 1)
        into, out = inputs.shape[2], slopes.shape[2]
        if inputs.shape[1] * (into + out) < into * out:
            return self._replace(inputs=inputs, slopes=slopes)
        weight, bias = slopes.mT @ inputs, slopes.sum(1, keepdim=True)
        if self.weight is not None and self.bias is not None:
            weight, bias = self.weight + weight, self.bias + bias
        return Moved(weight=weight, bias=bias)

    def on(self, x: Tensor, y: Tensor, rate: float, bias_rate: float) -> Tensor:
        """Returns the layer's output for inputs x, from its output y without these steps."""
        if self.weight is not None and self.bias is not None:
            y = torch.baddbmm(y, x, self.weight.mT, alpha=-rate).sub(self.bias, alpha=bias_rate)
        if self.inputs is not None and self.slopes is not None:
            shares = torch.baddbmm(x.new_full((1, 1, 1), bias_rate), x, self.inputs.mT, alpha=rate)
            y = torch.baddbmm(y, shares, self.slopes, alpha=-1)
        return y


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


class Adapted(TorchFunctionMode):
    """A context in which a model runs on rows `[T * N, ...]`, N for each of T tasks, with what the tasks adapted.

    `engines.factored` has the formulas.

    Args:
        tasks: the number of tasks, T.
        model: the model; its parameters are told apart by identity, also while others stand in for them.
        rates: the learning rate of every parameter that adapts, by name.
    """

    def __init__(self, tasks: int, model: nn.Module, rates: Mapping[str, float]) -> None:
        super().__init__()
        self.tasks = tasks
        adapting = {name: (p, rates[name]) for name, p in model.named_parameters() if name in rates}
        self.rates = {id(p): rate for p, rate in adapting.values()}
        linear = {id(p) for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters(recurse=False)}
        # The parameters of norms are small, and every task has its own: `[T, ...]`.
        with torch.enable_grad():
            self.own = {id(p): p.expand(tasks, *p.shape) for p, _ in adapting.values() if id(p) not in linear}
        self.moved: dict[int, Moved] = {}  # by a linear layer's weight
        self.calls: list[tuple[int, Tensor, GradientEdge]] = []  # of adapting layers: weight, input, output
        self.collected: list[tuple[Tensor, Tensor]] | None = None  # statistics of batch norms, if they are wanted
        self.given: Iterator[tuple[Tensor, Tensor]] | None = None  # statistics that batch norms use
        self.replaced = {F.linear: self.linear, F.batch_norm: self.batch_norm, F.layer_norm: self.layer_norm}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.replaced.get(func, func)(*args, **(kwargs or {}))

    def step(self, losses: Tensor, order: int) -> None:
        """Takes a step along the gradient of losses `[T]` of the calls since the last step; `order` as in
        `inner_loop`."""
        edges = [edge for *_, edge in self.calls]
        sources: list[Any] = [*edges, *self.own.values()]
        slopes = torch.autograd.grad(losses.sum(), sources, create_graph=order == 2, allow_unused=True)
        for (key, rows, _), slope in zip(self.calls, slopes, strict=False):
            if slope is not None:
                rows, slope = rows if order == 2 else rows.detach(), self._by_task(slope)
                self.moved[key] = self.moved.get(key, Moved()).further(rows, slope)
        for (key, p), slope in zip(self.own.items(), slopes[len(edges) :], strict=True):
            if slope is not None:
                moved = torch.sub(p, slope, alpha=self.rates[key])
                self.own[key] = moved if order else moved.detach().requires_grad_()
        self.calls.clear()

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """A context in which batch norms run on support sets; afterwards they normalise by those statistics."""
        found = self.collected = list[tuple[Tensor, Tensor]]()
        yield
        self.collected, self.given = None, iter(found)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """`F.linear` with each task's weight and bias."""
        y, key = F.linear(x, weight, bias), id(weight)
        rate, bias_rate = self.rates.get(key, 0.0), self.rates.get(id(bias), 0.0)
        if not rate and not bias_rate:
            return y
        rows, output = self._by_task(x), y
        if key in self.moved:
            output = self.moved[key].on(rows, self._by_task(y), rate, bias_rate)
        if output.requires_grad:  # the model may change the output in place, so its edge of the graph is kept
            self.calls.append((key, rows, get_gradient_edge(output)))
        return output.view_as(y)

    def batch_norm(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """`F.batch_norm` with each task's statistics, if they are the batch's, and its weight and bias."""
        if training:
            rows = x.unflatten(0, (self.tasks, -1))
            if rows.numel() == self.tasks * x.shape[1]:
                F.batch_norm(x[:1], None, None, training=True)  # which refuses a batch of one value per channel
            normalised = self._normalised(rows, eps).flatten(0, 1)
        else:
            normalised = F.batch_norm(x, mean, variance, eps=eps)
        return self._scaled(normalised, weight, bias, [x.shape[1]] + [1] * (x.dim() - 2))

    def _normalised(self, rows: Tensor, eps: float) -> Tensor:
        if self.given is not None:
            mean, variance = next(self.given)
            return (rows - mean) * torch.rsqrt(variance + eps)
        centred, mean, variance = centred_by(rows, [d for d in range(1, rows.dim()) if d != 2])
        if self.collected is not None:
            self.collected.append((mean, variance))
        return centred * torch.rsqrt(variance + eps)

    def layer_norm(
        self, x: Tensor, shape: list[int], weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
    ) -> Tensor:
        """`F.layer_norm` with each task's weight and bias."""
        return self._scaled(F.layer_norm(x, shape, eps=eps), weight, bias, [1] * (x.dim() - 1 - len(shape)) + [*shape])

    def _scaled(self, x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: list[int]) -> Tensor:
        """Returns x `[T * N, ...]` times the weight plus the bias, each in a `shape` that fits one example."""
        rows = x.unflatten(0, (self.tasks, -1))
        tensors = (None if p is None else self.own.get(id(p), p[None]).view(-1, 1, *shape) for p in (weight, bias))
        scale, shift = tensors
        if scale is not None:
            rows = rows * scale if shift is None else torch.addcmul(shift, rows, scale)
        elif shift is not None:
            rows = rows + shift
        return rows.flatten(0, 1)

    def _by_task(self, rows: Tensor) -> Tensor:
        """Returns `[T * N, ..., F]` as `[T, N * ..., F]`."""
        return rows.reshape(self.tasks, -1, rows.shape[-1])
