"""What can be said before any training: does the model take these examples, and this many classes?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .algorithms import Algorithm, GradientBased
from .algorithms.modes import kept_modes
from .errors import InputError, first_line


def find_device(device: torch.device | str) -> torch.device:
    """A device by name, known to be there; `InputError` otherwise."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"'{device}' is no device: {first_line(error)}; take 'cpu', 'cuda' or 'cuda:1'.") from error
    if found.type == "meta":
        raise InputError("The device 'meta' holds no values; leave device= out or take device='cpu'.")
    try:
        return torch.empty(0, device=found).device  # "cuda" becomes "cuda:0"
    except (AssertionError, RuntimeError) as error:  # a build without CUDA raises the first, a missing GPU the second
        said = first_line(error).split(". ")[0]
        raise InputError(
            f"The device '{device}' is not there: {said}; leave device= out or take device='cpu'."
        ) from error


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first parameter lives; the CPU for a module without any."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def dtype_of(module: nn.Module) -> torch.dtype:
    """The first floating dtype among a module's parameters; float32 for a module without any."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def check_ways(algorithm: Algorithm, ways: int) -> None:
    """Raises `InputError` where the model's head cannot tell `ways` classes apart."""
    outputs = getattr(algorithm, "max_ways", None)
    if outputs is not None:
        _enough_outputs(algorithm, ways, outputs)


def _enough_outputs(algorithm: Algorithm, ways: int, outputs: int) -> None:
    if ways > outputs:
        raise InputError(
            f"{ways} ways were asked for, and {type(algorithm.model).__name__} has {outputs} outputs; "
            f"make the model with ways={ways}, or ask for at most {outputs}."
        )


def check_model(algorithm: Algorithm, x: Tensor, ways: int | None = None) -> None:
    """Run the model on two examples, so that what does not fit is said in the user's words and before any work.

    Parameters, buffers, modes and the global RNG stay as they were.

    Args:
        algorithm: what holds the model.
        x: examples `[N, ...]`; the first two are used, or one twice.
        ways: classes of a task; None for regression.

    Raises:
        InputError: the head has fewer outputs than `ways`, or the model does not take examples of that shape.
    """
    if ways is not None:
        check_ways(algorithm, ways)
    x = (x if len(x) > 1 else torch.cat([x, x]))[:2].to(device_of(algorithm))
    buffers = {name: buffer.clone() for name, buffer in algorithm.named_buffers()}
    gpus = [x.device] if x.device.type == "cuda" else []
    with kept_modes(algorithm), torch.random.fork_rng(devices=gpus), torch.no_grad():
        algorithm.eval()
        try:
            scores = torch.func.functional_call(algorithm, buffers, (x,))
        except (RuntimeError, ValueError, IndexError) as error:
            raise InputError(_misfit(algorithm.model, x, error)) from error
    if ways is not None and isinstance(algorithm, GradientBased):  # without a linear head, only its scores tell
        _enough_outputs(algorithm, ways, scores.shape[-1])


def _misfit(model: nn.Module, x: Tensor, error: Exception) -> str:
    name, shape = type(model).__name__, list(x.shape[1:])
    kinds: tuple[Any, ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    convolution = next((module for module in model.modules() if isinstance(module, kinds)), None)
    if convolution is not None and len(shape) > 1 and convolution.in_channels != shape[0]:
        takes = convolution.in_channels
        return (
            f"{name} takes images of {takes} {'channel' if takes == 1 else 'channels'}, the data set gives {shape[0]} "
            f"(an example has shape {shape}); make the model with channels={shape[0]}."
        )
    return (
        f"{name} does not take examples of shape {shape}, which the data set gives ({first_line(error)}); "
        "make the model for that shape, or the data set with another image size."
    )
