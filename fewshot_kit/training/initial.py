"""Starts training from existing weights: those of another run, a saved learner or a file."""

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
    """Fills an algorithm, in place, with the weights of `source` that fit by name and shape.

    `source` must hold the whole network, except for its head. If `source` has no head that fits, a head that adapts to
    every task starts from zero, because its random weights would add noise to trained features. A head that does not
    adapt (BOIL's) keeps its weights. What the algorithm itself learns (rates, a scale) is kept too if nothing in
    `source` fits it.

    Args:
        algorithm: the algorithm to fill.
        source: a run folder, whose best weights are taken; a checkpoint or learner that the kit wrote; or a file of a
            network's weights, either safetensors or a `torch.save` of tensors alone.

    Returns:
        Names of the tensors that did not come from `source`.

    Raises:
        InputError: `source` cannot be read; a tensor of the network does not fit (the first one is named).
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
    """Returns the tensors of `source` by the algorithm's names. The network's names begin with `model.`"""
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
        return "model. "  # there is no head, and no name begins with this
