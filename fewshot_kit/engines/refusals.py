"""Errors for models and algorithms that an engine cannot run. The sentence names the operator and where it is: the
module of the model, or the line of an algorithm that is not in this package."""

from __future__ import annotations

import contextlib
import copy
import linecache
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..algorithms.bases.recomputed import VECTORISED
from ..episodes import Episode
from ..errors import InputError, first_line
from .misfits import FAILURES, check_fit

# Parts of PyTorch's messages about an operator that has no second derivative.
ONCE = ("derivative for aten::", "the derivative for", "trying to differentiate twice")
SLOW = "There is a performance drop because we have not yet implemented the batching rule"


class Known(NamedTuple):
    """A common construct in people's algorithms that `vmap` refuses."""

    said: str  # part of PyTorch's error
    called: str
    remedy: str


CLASSES = "use fewshot_kit.algorithms.members(y) for the classes of a task"
SLOPE = "use torch.func.grad"
KNOWN = (
    Known("data-dependent", "control flow that depends on values", CLASSES),
    Known("explicit positive num_classes", "one_hot", CLASSES),
    Known("calling .item()", "item()", CLASSES),
    Known("boolean mask", "indexing by a mask", CLASSES),
    Known("output dynamic shape", "a size that depends on values", CLASSES),
    Known("data pointer of Tensor", "a list or array of values", CLASSES),
    Known(
        "call Tensor.requires_grad_()",
        "requires_grad_()",
        "use fewshot_kit.algorithms.leaf(tensor), and torch.func.grad for its gradient",
    ),
    Known("does not require grad", "a gradient by autograd", SLOPE),
    Known("backward() called inside", "backward()", SLOPE),
    Known(VECTORISED, "checkpoint=True", "leave it out"),
)


class Refused(InputError):
    """An engine cannot run a model; `reason` is the part of the sentence that says why."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class TooLarge(Refused):
    """An engine ran out of memory."""


# Parts of PyTorch's messages about memory, besides those of `torch.cuda.OutOfMemoryError`: of the CPU's allocator, of
# other devices, and of a convolution whose scratch memory was refused.
MEMORY = ("DefaultCPUAllocator", "out of memory", "could not create a memory")


@contextlib.contextmanager
def within_memory(algorithm: Algorithm, engine: str) -> Iterator[None]:
    """Turns an error for want of memory into `TooLarge`. Every other error passes."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in MEMORY):
            raise
        reason = f"it needs more memory than there is ({first_line(error)})"
        remedies = ["engine='loop'"] if engine == "vmap" else []
        remedies += ["checkpoint=True"] if algorithm.through_steps and not algorithm.checkpoint else []
        instead = ", ".join([*remedies, "fewer queries"])
        raise TooLarge(
            reason, f"The engine '{engine}' cannot run this: {reason}; take {instead}, or a smaller model."
        ) from error


@contextlib.contextmanager
def explained(algorithm: Algorithm, engine: str, episodes: Episode) -> Iterator[None]:
    """Turns PyTorch's error about an operator or memory into a `Refused`, and that about a meta-batch that does
    not fit the model into an `InputError`. Every other error passes."""
    try:
        with warnings.catch_warnings(), within_memory(algorithm, engine):
            if engine == "vmap":  # the operator would run once per episode, slower than the loop
                warnings.filterwarnings("error", SLOW)
            yield
    except (RuntimeError, UserWarning) as error:
        text = first_line(error)
        if any(words in text for words in ONCE):
            reason = f"{_operator(error)} in {_once_only(algorithm.model, episodes)} has no second derivative"
            raise Refused(reason, f"{reason}; take first_order=True, or another layer in its place.") from error
        _explain_misfit(algorithm, episodes, error)
        if engine != "vmap":
            raise
        module, line, known = _module(algorithm, error), _line(error), _known(error)
        reason = f"{_operator(error)} in {module or line or type(algorithm).__name__} does not vectorise"
        remedied = known is not None and line is not None and module is None  # for the author of the algorithm
        reason = f"{reason}: {known.remedy}" if known and remedied else reason
        instead = ", or take" if remedied else "; take"
        raise Refused(reason, f"The engine 'vmap' cannot run this: {reason}{instead} engine='loop'.") from error
    except InputError:
        raise
    except FAILURES as error:
        _explain_misfit(algorithm, episodes, error)
        raise


def _explain_misfit(algorithm: Algorithm, episodes: Episode, error: Exception) -> None:
    """Raises an `InputError` in place of the error, if the meta-batch and the model do not fit together."""
    try:
        check_fit(algorithm, episodes)
    except InputError as misfit:
        raise misfit from error


def _operator(error: BaseException) -> str:
    """Returns the operator that PyTorch's message names, or the line of Python that called it."""
    named = re.search(r"aten::\w+", str(error))
    if named:
        return named.group()
    if known := _known(error):
        return known.called
    if "once_differentiable" in str(error):
        return "a function of its own"
    calls = [re.search(r"(?:_VF|torch|F|functional)\.(\w+)\(", frame.line or "") for frame in _frames(error)]
    found = [call.group(1) for call in calls if call]
    return found[-1] if found else f"an operator ({first_line(error)})"


def _known(error: BaseException) -> Known | None:
    return next((known for known in KNOWN if known.said in str(error)), None)


def _frames(error: BaseException) -> traceback.StackSummary:
    return traceback.extract_tb(error.__traceback__)


def _module(algorithm: Algorithm, error: BaseException) -> str | None:
    """Returns the innermost module of the model that was running."""
    names = {id(module): name for name, module in algorithm.model.named_modules()}
    inside = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    running = [module for module in inside if isinstance(module, nn.Module) and id(module) in names]
    return _named(names[id(running[-1])], running[-1]) if running else None


def _line(error: BaseException) -> str | None:
    """Returns the innermost line of Python outside of this package, PyTorch and the standard library."""
    ours = {__name__.split(".")[0], "torch", *sys.stdlib_module_names}
    frames = [
        (frame.f_code.co_filename, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).split(".")[0] not in ours
    ]
    if not frames:
        return None
    file, number = frames[-1]
    text = linecache.getline(file, number).strip()
    return f"{Path(file).name}:{number}" + (f" (`{text}`)" if text else "")


def _named(name: str, module: nn.Module) -> str:
    kind = type(module).__name__
    return f"the {kind} '{name}'" if name else kind


def _once_only(model: nn.Module, episodes: Episode) -> str:
    """Returns the first layer that cannot be differentiated twice on its own, or the model if every layer can."""
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
    module = copy.deepcopy(module)  # a copy, because gradients are stored in it
    moving = [x.detach().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x for x in inputs]
    output = module(*moving)
    output = output[0] if isinstance(output, tuple) else output
    sources = [x for x in [*moving, *module.parameters()] if isinstance(x, Tensor) and x.requires_grad]
    slopes = torch.autograd.grad(output.square().sum(), sources, create_graph=True, allow_unused=True)
    torch.stack([slope.square().sum() for slope in slopes if slope is not None]).sum().backward()
