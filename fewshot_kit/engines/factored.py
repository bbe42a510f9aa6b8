"""`engine="factored"`: plain inner steps of linear layers, without weights of a task's own.

A linear layer gives x W^T + b. For a task's support set let A `[S, in]` be its inputs and D `[S, out]` the gradient of
the support loss with respect to its outputs. The gradient of W is D^T A, of rank S at most, and that of b is the sum of
D's rows. After a step at the rate r the layer therefore gives

    x (W - r D^T A)^T + b - r 1^T D  =  x W^T + b - r (x A^T + 1) D,

and after several steps the A and D of all steps stand below each other. So W is shared by all tasks, one product serves
all their examples, and only the outputs are differentiated. The meta-gradient flows through A and D (second order), or
takes them as constants (first order). The gain shrinks as S times the steps come near the layer's width.

Batch norm and layer norm adapt weights of each task's own, which are small. All other layers run on the examples of all
tasks together, so they must treat every example by itself.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from ..algorithms import Algorithm
from ..algorithms.bases.descent import Descent
from ..algorithms.bases.protocol import Criterion, default_criterion, default_losses
from ..episodes import Episode
from ..errors import InputError, first_line
from ..modules.batch_norm import enough_examples
from ..modules.heads import head_call
from ..modules.layers import layers, looked_for_once
from ..modules.modes import twice_differentiable
from ..modules.place import device_of
from ..seeds import kept_random
from .low_rank import Adapted
from .misfits import FAILURES
from .refusals import explained
from .results import Result, combined, differentiated, restored, trainable
from .vmap import chunks


def run(algorithm: Algorithm, episodes: Episode, chunk: int | None = None) -> Result:
    """Returns losses, scores and summed gradients of a meta-batch, in the order of its episodes.

    Args:
        chunk: episodes that run at a time; None runs all together.
    """
    parts: list[Result] = []
    for part in chunks(episodes, chunk):
        losses, scores = Losses(algorithm)(part)
        parts = [combined([*parts, differentiated(losses, scores, trainable(algorithm))])]
    return parts[0]


def predict(algorithm: Algorithm, episodes: Episode, chunk: int | None = None) -> Tensor:
    """Returns query scores `[T, Q, classes]` of a meta-batch, without a graph."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.cat([_scores(algorithm, Episode(*map(torch.clone, p)), 0) for p in chunks(episodes, chunk)])


class Losses(nn.Module):
    """Gives losses `[T]` and scores `[T, Q, classes]`. As a module, it lets `functional_call` set its tensors."""

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__()
        self.algorithm = algorithm

    def forward(self, episodes: Episode) -> tuple[Tensor, Tensor]:
        order = 1 if self.algorithm.descent().first_order else 2
        scores = _scores(self.algorithm, episodes, order)
        return _each(self.algorithm.criterion, scores, episodes.query_y), scores


@looked_for_once()
def _scores(algorithm: Algorithm, episodes: Episode, order: int) -> Tensor:
    """Returns query scores `[T, Q, classes]`; `order` as in `inner_loop`."""
    model, descent, tasks = algorithm.model, algorithm.descent(), len(episodes.support_x)
    policy = replace(descent.policy, twice=False)
    adapted = Adapted(tasks, model, descent.rates)

    def passed(module: nn.Module, x: Tensor) -> Tensor:
        with enough_examples(len(x) // tasks, policy.name), adapted:
            return module(x)

    support, queries = episodes.support_x.flatten(0, 1), episodes.query_x.flatten(0, 1)
    with twice_differentiable(model):
        with torch.enable_grad(), policy.on_support(model):
            module, x = model, support
            if (head := _alone(model, descent)) is not None:  # all that is before it runs once for all steps
                with torch.set_grad_enabled(order == 2):
                    features = head_call(model, head, lambda: passed(model, support))
                if features is not None:
                    module, x = model.get_submodule(head), features
            for _ in range(descent.steps):
                scores = passed(module, x).unflatten(0, (tasks, -1))
                adapted.step(_each(algorithm.criterion, scores, episodes.support_y), order)
        with contextlib.ExitStack() as stack:
            if policy.queries == "support":
                stack.enter_context(policy.on_support(model))
                with adapted.collecting():
                    passed(model, support)
            else:
                stack.enter_context(policy.on_queries(model, {}))
            return passed(model, queries).unflatten(0, (tasks, -1))


def _alone(model: nn.Module, descent: Descent) -> str | None:
    """Returns the name of the linear layer that alone adapts, or None."""
    owners = {name.rpartition(".")[0] for name in descent.rates}
    found = owners.pop() if len(owners) == 1 else None
    return found if found is not None and isinstance(model.get_submodule(found), nn.Linear) else None


def _each(criterion: Criterion, scores: Tensor, y: Tensor) -> Tensor:
    """Returns the losses `[T]` of scores `[T, N, ...]` and targets `[T, N, ...]`."""
    if criterion is not default_criterion or (y.is_floating_point() and scores.numel() != y.numel()):
        return vmap(criterion)(scores, y)
    return default_losses(scores, y)


# Sources of batch norm's statistics, for a support set and for queries, that the engine knows.
KNOWN = (("batch", "batch"), ("batch", "support"), ("stored", "stored"))


def unfit(algorithm: Algorithm, episodes: Episode) -> str | None:
    """Returns why the engine cannot run this, or None. It leaves the algorithm and the global RNG alone.

    Raises:
        InputError: the meta-batch does not fit the model.
    """
    try:
        descent = algorithm.descent()
    except InputError as error:
        return str(error).rstrip(".")
    if (sources := (descent.policy.support, descent.policy.queries)) not in KNOWN:
        return f"its batch norm takes statistics from {' and '.join(sources)}"
    if layers(algorithm.model).tied:
        return "parameters or buffers of the model are tied"
    fitting = dict(_fitting(algorithm.model))
    if odd := [name for name in descent.rates if name not in fitting]:
        owner = type(algorithm.model.get_submodule(odd[0].rpartition(".")[0])).__name__
        return f"'{odd[0]}' of {owner} adapts, and only linear layers, batch norms and layer norms may"
    probe, reading = copy.deepcopy(algorithm), _Reading()
    few = Episode(*(tensor[:2] for tensor in episodes))
    try:
        with kept_random(device_of(algorithm)), restored(probe) as moves, reading, explained(probe, "factored", few):
            predict(probe, few)
    except InputError:
        raise
    except FAILURES as error:
        return f"the model does not run on the examples of several tasks together ({first_line(error)})"
    if reading.found:
        return "the model or its criterion looks at values, which would be those of all tasks"
    return f"the model moves the buffer '{next(iter(moves)).removeprefix('model.')}' itself" if moves else None


class _Reading(TorchDispatchMode):
    """A context that notes whether anything reads a value, as `if x.sum() > 0` does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found |= func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def _fitting(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields the parameters that may adapt, by name."""
    for name, module in model.named_modules():
        linear = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
        if linear or isinstance(module, _BatchNorm | nn.LayerNorm):
            found = {part: p for part, p in module.named_parameters(name, recurse=False)}
            yield from ((part, p) for part, p in found.items() if part.rpartition(".")[2] in ("weight", "bias"))
