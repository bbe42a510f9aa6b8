"""What a model does that an engine cannot run, in one sentence that names the operator and the module."""

from __future__ import annotations

import contextlib
import copy
import re
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..episodes import Episode
from ..errors import InputError, first_line

# Beginnings of what PyTorch says of an operator that has one derivative, or none.
ONCE = ("derivative for aten::", "the derivative for", "trying to differentiate twice")
SLOW = "There is a performance drop because we have not yet implemented the batching rule"


class Refused(InputError):
    """A model that an engine cannot run; `reason` is the part of the sentence that says why."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@contextlib.contextmanager
def explained(algorithm: Algorithm, engine: str, episodes: Episode) -> Iterator[None]:
    """Turn PyTorch's error about an operator, or about a GPU's memory, into a `Refused`; every other error passes."""
    try:
        with warnings.catch_warnings():
            if engine == "vmap":  # an operator that runs once per episode after all: slower than the loop
                warnings.filterwarnings("error", SLOW)
            yield
    except torch.cuda.OutOfMemoryError as error:
        reason = f"it needs more memory than there is ({first_line(error)})"
        instead = "a smaller chunk, or engine='loop'" if engine == "vmap" else "fewer queries, or a smaller model"
        raise Refused(reason, f"The engine '{engine}' cannot run this: {reason}; take {instead}.") from error
    except (RuntimeError, UserWarning) as error:
        text = first_line(error)
        if any(words in text for words in ONCE):
            reason = f"{_operator(error)} in {_once_only(algorithm.model, episodes)} has no second derivative"
            raise Refused(reason, f"{reason}; take first_order=True, or another layer in its place.") from error
        if engine != "vmap":
            raise
        reason = f"{_operator(error)} in {_module(algorithm, error)} does not vectorise"
        raise Refused(reason, f"The engine 'vmap' cannot run this: {reason}; take engine='loop'.") from error


def _operator(error: BaseException) -> str:
    """The operator by what PyTorch says, or else by the line of Python that called it."""
    named = re.search(r"aten::\w+", str(error))
    if named:
        return named.group()
    if "data-dependent" in str(error):
        return "control flow that depends on values"
    if "once_differentiable" in str(error):
        return "a function of its own"
    calls = [re.search(r"(?:_VF|torch|F|functional)\.(\w+)\(", frame.line or "") for frame in _frames(error)]
    found = [call.group(1) for call in calls if call]
    return found[-1] if found else f"an operator ({first_line(error)})"


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.extract_tb(error.__traceback__)


def _module(algorithm: Algorithm, error: BaseException) -> str:
    """The innermost module of the model that was running."""
    names = {id(module): name for name, module in algorithm.model.named_modules()}
    inside = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    running = [module for module in inside if isinstance(module, nn.Module) and id(module) in names]
    return _named(names[id(running[-1])], running[-1]) if running else type(algorithm).__name__


def _named(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f"the {kind} '{name}'" if name else kind


def _once_only(model: nn.Module, episodes: Episode) -> str:
    """The first layer that cannot be differentiated twice on its own; the model where none of its layers is one."""
    seen: list[tuple[str, nn.Module, tuple[Any, ...]]] = []

    def look(name: str) -> Any:
        return lambda module, inputs: seen.append((name, module, inputs))

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles = [module.register_forward_pre_hook(look(name)) for name, module in leaves]
    try:
        model(episodes.support_x[0])
    finally:
        for handle in handles:
            handle.remove()
    for name, module, inputs in seen:
        try:
            _differentiate_twice(module, inputs)
        except RuntimeError:
            return _named(name, module)
    return _named("", model)


def _differentiate_twice(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    module = copy.deepcopy(module)  # whose gradients do not matter
    moving = [x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    output = module(*moving)
    output = output[0] if isinstance(output, tuple) else output
    sources = [x for x in [*moving, *module.parameters()] if isinstance(x, Tensor) and x.requires_grad]
    slopes = torch.autograd.grad(output.square().sum(), sources, create_graph=True, allow_unused=True)
    torch.stack([slope.square().sum() for slope in slopes if slope is not None]).sum().backward()
