"""Batch norm within a task: where its statistics come from, for the support set and for the queries."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ..errors import InputError
from .batch_norm_gradient import by_its_batch
from .layers import batch_norms, layers
from .modes import attributes

# Sources of the statistics that a pass through the network is normalised by. `batch`: the pass itself. `moving`: the
# pass itself, which also moves the stored statistics, as PyTorch does in training. `stored`: the stored statistics.
# `support`: the statistics of the task's support set.
Source = Literal["batch", "moving", "stored", "support"]
# Name of a batch-norm layer -> mean and biased variance per channel, for each call of the layer.
Statistics = dict[str, list[tuple[Tensor, Tensor]]]


@dataclasses.dataclass(frozen=True)
class Policy:
    """Says where the statistics come from. `POLICIES` holds the named policies; an algorithm may make its own.

    Args:
        name: name of the policy in messages.
        support: source of the statistics in a pass over the support set.
        queries: source of the statistics in a pass over queries.
        twice: use the cheaper second derivative in passes with statistics of their own; meant for inner loops.
    """

    name: str
    support: Source
    queries: Source
    twice: bool = False

    @property
    def reads_stored(self) -> bool:
        """Whether a task reads or moves the stored statistics."""
        return not {"stored", "moving"}.isdisjoint((self.support, self.queries))

    def together(self, model: nn.Module) -> bool:
        """Returns whether batch norm makes the scores of a query depend on the other queries."""
        return self.queries in ("batch", "moving") and bool(batch_norms(model))

    def check(self, model: nn.Module) -> None:
        """Raises `InputError` if the policy needs running statistics and a layer keeps none."""
        bare = [name for name, layer in batch_norms(model).items() if layer.running_mean is None]
        if self.name == "running" and bare:
            raise InputError(
                f"The batch norm '{bare[0]}' keeps no running statistics, which batch_norm='running' needs; "
                "make it with track_running_stats=True, or take batch_norm='transductive' or 'support'."
            )

    def on_support(self, model: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Context in which the model runs on a support set."""
        return _passing(model, self.support, self.twice)

    @contextlib.contextmanager
    def kept(self, model: nn.Module) -> Iterator[Statistics]:
        """Context, within `on_support`, that collects the statistics for the queries, if queries use them."""
        if self.queries != "support":
            yield {}
            return
        with _collected(model) as found:
            yield found

    @contextlib.contextmanager
    def on_queries(self, model: nn.Module, statistics: Statistics) -> Iterator[None]:
        """Context in which the model runs on queries; `statistics` are those of their task's support set."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_passing(model, self.queries, self.twice))
            if self.queries == "support":
                stack.enter_context(_normalised_by(model, statistics))
            yield


POLICIES = {
    "transductive": Policy("transductive", support="batch", queries="batch"),
    "support": Policy("support", support="batch", queries="support"),
    "running": Policy("running", support="stored", queries="stored"),
}


@functools.cache
def find_policy(name: str, twice: bool = False) -> Policy:
    """Returns the policy of that name; raises `InputError` if there is none."""
    if name not in POLICIES:
        raise InputError(f"batch_norm is '{name}'; it is one of {', '.join(POLICIES)}.")
    return dataclasses.replace(POLICIES[name], twice=twice)


def usual_policy(model: nn.Module) -> str:
    """Returns the name of the policy that suits a network of unknown origin.

    The policy is `running` if training has moved the stored statistics of every layer. Otherwise they are of no use, as
    in a network that was never trained or was meta-trained on batch statistics, and the policy is `support`.
    """
    normalising = batch_norms(model).values()
    return "running" if all(_has_moved(layer) for layer in normalising) else "support"


def never_trained(model: nn.Module) -> bool:
    """Returns whether a network's batch norms are all in their initial state, which any training would change.

    The answer is False for a network without batch norms, since it does not tell.
    """
    found = list(batch_norms(model).values())
    return bool(found) and not any(_has_moved(layer) or _is_tuned(layer) for layer in found)


def _has_moved(layer: _BatchNorm) -> bool:
    mean, variance = layer.running_mean, layer.running_var
    return mean is not None and variance is not None and bool((mean != 0).any() or (variance != 1).any())


def _is_tuned(layer: _BatchNorm) -> bool:
    return layer.affine and bool((layer.weight != 1).any() or (layer.bias != 0).any())


@contextlib.contextmanager
def enough_examples(count: int, policy: str) -> Iterator[None]:
    """Context in which a model runs on `count` examples; batch norm's error about too few becomes an `InputError`."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"Batch norm cannot take its statistics from {count} example (batch_norm='{policy}'); give more examples, "
            "or take batch_norm='running' (with several support examples, 'support' does too)."
        ) from error


@contextlib.contextmanager
def _passing(model: nn.Module, source: Source, twice: bool) -> Iterator[None]:
    """Context in which batch norm uses statistics from `source`, whatever the model's mode."""
    normalising, by_batch = batch_norms(model).values(), source in ("batch", "moving")
    changes: list[tuple[Any, str, Any]] = [(layer, "training", by_batch) for layer in normalising]
    # cuDNN differentiates a recurrent layer only in training mode. Without dropout the mode has no other effect.
    changes += [(layer, "training", True) for layer in layers(model).recurrent if not layer.dropout]
    if source == "batch":
        changes += [(layer, "track_running_stats", False) for layer in normalising]
    if by_batch and twice:
        plain = [layer for layer in normalising if type(layer).forward is _BatchNorm.forward]
        changes += [(layer, "forward", functools.partial(by_its_batch, layer)) for layer in plain]
    with attributes(changes):
        yield


@contextlib.contextmanager
def _hooked(hooks: list[RemovableHandle]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _collected(model: nn.Module) -> Iterator[Statistics]:
    """Context that collects the statistics of each batch norm's inputs, as tensors with a graph."""
    found: Statistics = {name: [] for name in batch_norms(model)}

    def look(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor]) -> None:
            over = [d for d in range(inputs[0].dim()) if d != 1]
            found[name].append((inputs[0].mean(over), inputs[0].var(over, unbiased=False)))

        return hook

    with _hooked([layer.register_forward_pre_hook(look(name)) for name, layer in batch_norms(model).items()]):
        yield found


@contextlib.contextmanager
def _normalised_by(model: nn.Module, statistics: Statistics) -> Iterator[None]:
    """Context in which batch norm uses these statistics and is differentiated with respect to them too.

    `F.batch_norm` would treat given statistics as constants, and the meta-gradient would be wrong.
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
