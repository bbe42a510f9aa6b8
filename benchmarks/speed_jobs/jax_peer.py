"""JAX on a `Work`: `jit(vmap(grad))` of a functional statement of the kit's plain networks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .work import Prepared, Work

Arrays = dict[str, Any]


def jax(work: Work) -> Prepared:
    """The whole meta-gradient as one compiled function.

    Raises:
        ImportError: JAX is not installed, or has no backend for the device that the work is on.
    """
    library: Any = importlib.import_module("jax")
    # float64 stays float64 where the check asks for it, and float32 is not rounded to TF32 on a GPU.
    library.config.update("jax_enable_x64", True)
    library.config.update("jax_default_matmul_precision", "float32")
    here = "gpu" if work.episodes.support_x.is_cuda else "cpu"
    if library.default_backend() != here:
        raise ImportError(f"JAX here runs on {library.default_backend()}, not on {here}")
    parameters = {name: library.numpy.asarray(_plain(p)) for name, p in work.model.named_parameters()}
    episodes = [library.numpy.asarray(_plain(tensor)) for tensor in work.episodes]
    gradient = library.jit(_meta_gradient(library, work))

    def call() -> list[Any]:
        found = library.block_until_ready(gradient(parameters, *episodes))
        return [found[name] for name in parameters]

    return Prepared(call)


def _plain(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _meta_gradient(library: Any, work: Work) -> Callable[..., Arrays]:
    network, regression = _network(library, work.model), work.episodes.support_y.is_floating_point()
    numpy, tree = library.numpy, library.tree_util.tree_map

    def loss(parameters: Arrays, x: Any, y: Any) -> Any:
        scores = network(parameters, x)
        if regression:
            return numpy.mean((scores[:, 0] - y) ** 2)
        return -numpy.mean(numpy.take_along_axis(library.nn.log_softmax(scores), y[:, None], 1))

    def task(parameters: Arrays, support_x: Any, support_y: Any, query_x: Any, query_y: Any) -> Any:
        for _ in range(work.steps):
            slopes = library.grad(loss)(parameters, support_x, support_y)
            if work.first_order:
                slopes = library.lax.stop_gradient(slopes)
            parameters = tree(lambda p, g: p - work.lr * g, parameters, slopes)
        return loss(parameters, query_x, query_y)

    def mean(parameters: Arrays, *episodes: Any) -> Arrays:
        slopes: Arrays = library.vmap(library.grad(task), (None, 0, 0, 0, 0))(parameters, *episodes)
        return tree(lambda slope: slope.mean(0), slopes)

    return mean


def _network(library: Any, model: nn.Module) -> Callable[[Arrays, Any], Any]:
    """The kit's networks without branches run their layers in the order they are registered in."""
    layers = [(name, module) for name, module in model.named_modules() if not list(module.children())]

    def run(parameters: Arrays, x: Any) -> Any:
        for name, layer in layers:
            own = {key: parameters[f"{name}.{key}"] for key, _ in layer.named_parameters()}
            x = _layer(library, layer, own, x)
        return x

    return run


def _layer(library: Any, layer: nn.Module, own: Arrays, x: Any) -> Any:
    numpy, lax = library.numpy, library.lax
    if isinstance(layer, nn.Conv2d):
        edges = [(size, size) for size in layer.padding]
        numbers = ("NCHW", "OIHW", "NCHW")
        x = lax.conv_general_dilated(x, own["weight"], layer.stride, edges, dimension_numbers=numbers)
        return x + own["bias"][:, None, None]
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        over, shape = (0, *range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
        normal = (x - x.mean(over, keepdims=True)) / numpy.sqrt(x.var(over, keepdims=True) + layer.eps)
        return normal * own["weight"].reshape(shape) + own["bias"].reshape(shape)
    if isinstance(layer, nn.ReLU):
        return numpy.maximum(x, 0)
    if isinstance(layer, nn.MaxPool2d):
        return lax.reduce_window(x, -numpy.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    if isinstance(layer, nn.Linear):
        return x.reshape(len(x), -1) @ own["weight"].T + own["bias"]
    raise ImportError(f"no JAX statement of {type(layer).__name__} here")
