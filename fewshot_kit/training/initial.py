"""Starting from weights that are there: another run's, a saved learner's, or those of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..errors import InputError
from ..models.weights import read_weights
from ..modules.heads import find_head
from ..runs.checkpoints import find_state, read_state
from ..runs.storage import is_own


def start_from(algorithm: Algorithm, source: str | Path) -> list[str]:
    """Fill an algorithm, in place, with the weights of `source` that fit by name and shape.

    The network but for its head has to be there in full. Where `source` has no head that fits, one that adapts to every
    task starts from zero: what it was drawn as would be noise on top of trained features. One that stays as it is
    (BOIL's) is kept, and so is what the algorithm itself learns (rates, a scale).

    Args:
        algorithm: what is to start.
        source: a run folder, of which the best weights are taken; a checkpoint or learner that the kit wrote; or a file
            of a network's weights, safetensors or a `torch.save` of tensors alone.

    Returns:
        Names of the tensors that `source` did not have.

    Raises:
        InputError: nothing there that can be read; the first tensor of the network that does not fit.
    """
    found, own = _tensors(source), algorithm.state_dict()
    fitting = {
        name: found[name]
        for name, tensor in own.items()
        if isinstance(tensor, Tensor) and name in found and found[name].shape == tensor.shape
    }
    head = _head(algorithm)
    for name in own:
        if name.startswith("model.") and not name.startswith(head) and name not in fitting:
            there = f"shape {list(found[name].shape)}" if name in found else "no such tensor"
            raise InputError(
                f"{source} does not fit {type(algorithm.model).__name__}: '{name.removeprefix('model.')}' has {there} "
                f"there and shape {list(own[name].shape)} here; start from a run of the same network."
            )
    with torch.no_grad():
        for name, tensor in fitting.items():
            own[name].copy_(tensor)
        for name, tensor in own.items():
            if name.startswith(head) and name not in fitting and name.removeprefix("model.") in algorithm.adapts():
                tensor.zero_()
    missing = [name for name in own if name not in fitting]
    algorithm.started(missing)
    return missing


def _tensors(source: str | Path) -> dict[str, Any]:
    """By the algorithm's names, in which those of the network begin with `model.`"""
    path = Path(source)
    if path.is_dir():
        path = find_state(path)
    if is_own(path):
        return {name: tensor for name, tensor in read_state(path)[0]["algorithm"].items() if isinstance(tensor, Tensor)}
    return {f"model.{name}": tensor for name, tensor in read_weights(path).items()}


def _head(algorithm: Algorithm) -> str:
    try:
        return f"model.{find_head(algorithm.model, algorithm.head)}."
    except InputError:
        return "model. "  # none: no name begins so
