"""Checks before any training that the model takes the examples and has enough outputs for the classes."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import InputError, first_line
from ...modules.kinds import check_values
from ...modules.modes import kept_modes
from ...modules.place import device_of, dtype_of
from ...seeds import kept_random
from .. import Algorithm
from .protocol import default_criterion

KINDS = ("dtype", "scalar type", "Input type", "Long")  # words of PyTorch about a tensor of another type


def check_algorithm(algorithm: Any, taker: str) -> None:
    """Raises `InputError` for what is no algorithm, or has no values.

    Args:
        taker: the function that was given it, for the message.
    """
    if isinstance(algorithm, Algorithm):
        check_values(algorithm)
    elif isinstance(algorithm, nn.Module):
        raise InputError(
            f"{taker} takes an algorithm, and {type(algorithm).__name__} is a plain module; give "
            'algorithms.create("maml", model=...), or another.'
        )
    else:
        what = f"'{algorithm}'" if isinstance(algorithm, str) else f"a {type(algorithm).__name__}"
        raise InputError(f'{taker} takes an algorithm, not {what}; give algorithms.create("maml", model=...).')


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
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
            raise InputError(_misfit(algorithm.model, x, error)) from error
    _check_output(type(algorithm.model).__name__, scores, len(x))
    if not regression and algorithm.keeps_head:  # without a linear head, only the scores tell the number of outputs
        _enough_outputs(algorithm, ways, scores.shape[-1])
    if algorithm.descends:  # the other algorithms run the model without its head
        _check_criterion(algorithm, scores, y)


def _check_output(name: str, scores: Any, examples: int) -> None:
    if not isinstance(scores, Tensor):
        size = f" of {len(scores)}" if isinstance(scores, tuple | list) else ""
        what = "None" if scores is None else f"a {type(scores).__name__}{size}"
        raise InputError(
            f"{name} returns {what}, and has to return one tensor, [N, ...] for N examples; wrap it in an nn.Module "
            "whose forward returns the scores alone."
        )
    if not scores.dim() or len(scores) != examples:
        raise InputError(
            f"{name} returns shape {list(scores.shape)} for {examples} examples; the first dimension must be that of "
            "the examples."
        )


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
    if isinstance(error, TypeError):
        return (
            f"{name} cannot be run on examples of shape {shape} ({first_line(error)}); its forward must take a batch "
            "of examples alone, and every layer return a tensor."
        )
    dtype = dtype_of(model)
    if x.dtype != dtype and any(word in str(error) for word in KINDS):
        return f"{name} does not take examples of {x.dtype} ({first_line(error)}); give x.to({dtype})."
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
