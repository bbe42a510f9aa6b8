"""Checks before any training that the model takes the examples and has enough outputs for the classes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError, first_line
from ...modules.modes import kept_modes
from ...modules.place import device_of
from ...seeds import kept_random
from .. import Algorithm
from .protocol import default_criterion


def check_ways(algorithm: Algorithm, ways: int) -> None:
    """Raises `InputError` if the model's head cannot tell `ways` classes apart."""
    if algorithm.max_ways is not None:
        _enough_outputs(algorithm, ways, algorithm.max_ways)


def _enough_outputs(algorithm: Algorithm, ways: int, outputs: int) -> None:
    if ways > outputs:
        instead = f"ask for at most {outputs}" if outputs > 1 else "give float targets, if this is a regression"
        raise InputError(
            f"{ways} ways were asked for, and {type(algorithm.model).__name__} has {outputs} "
            f"output{'s' * (outputs > 1)}; make the model with ways={ways}, or {instead}."
        )


def check_task(algorithm: Algorithm, x: Tensor, y: Tensor, ways: int) -> None:
    """Runs the model on two examples, so that a mismatch raises a clear error before any work is done.

    Parameters, buffers, modes and the global RNG stay as they were.

    Args:
        algorithm: the algorithm that holds the model.
        x: examples `[N, ...]`; the first two are used, and a single one is used twice.
        y: class indices or float targets of the examples.
        ways: number of classes of a task, if it has classes.

    Raises:
        InputError: the head has fewer outputs than `ways`, the model does not take examples of that shape, or the
            algorithm or its criterion does not take targets of that kind.
    """
    regression = y.is_floating_point()
    if not regression:
        check_ways(algorithm, ways)
    elif not algorithm.regression:
        raise InputError(
            f"{type(algorithm).__name__} tells classes apart, and these targets are floats; give class labels "
            "(ints or strings), or take an algorithm that does regression too, such as 'maml'."
        )
    x, y = ((tensor if len(tensor) > 1 else torch.cat([tensor] * 2))[:2].to(device_of(algorithm)) for tensor in (x, y))
    buffers = {name: buffer.clone() for name, buffer in algorithm.named_buffers()}
    with kept_modes(algorithm), kept_random(x.device), torch.no_grad():
        algorithm.eval()
        try:
            scores = torch.func.functional_call(algorithm, buffers, (x,))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise InputError(_misfit(algorithm.model, x, error)) from error
    if not regression and algorithm.keeps_head:  # without a linear head, only the scores tell the number of outputs
        _enough_outputs(algorithm, ways, scores.shape[-1])
    if algorithm.descends:  # the other algorithms run the model without its head
        _check_criterion(algorithm, scores, y)


def _check_criterion(algorithm: Algorithm, scores: Tensor, y: Tensor) -> None:
    values, outputs = y[0].numel(), scores[0].numel()
    if y.is_floating_point() and algorithm.criterion is default_criterion and values != outputs:
        raise InputError(
            f"{type(algorithm.model).__name__} gives {outputs} outputs for an example, and its target has {values} "
            f"value{'s' * (values > 1)}; make the model with ways={values}, or give class labels (ints or strings)."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # F.mse_loss only warns if the shapes differ
            algorithm.criterion(scores, y)
    except (RuntimeError, ValueError, IndexError, UserWarning) as error:
        kinds = ("float targets", "class labels (ints)") if y.is_floating_point() else ("class labels", "float targets")
        raise InputError(
            f"The criterion does not take {kinds[0]} ({first_line(error)}); give it {kinds[1]}, or another criterion."
        ) from error


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
