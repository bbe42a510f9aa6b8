"""Checks what a checkpoint holds beside the algorithm. Its file may be altered, and its checksum with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError


def check_snapshot(
    extra: Any,
    meta: Any,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    iterations: int,
    source: str | Path,
) -> None:
    """Raises `InputError`, naming `source`, for anything that `Training.snapshot` does not give of this run.

    Args:
        extra, meta: what the checkpoint holds.
        optimizer: the run's Adam.
        state: the algorithm's state dict.
        iterations: those that the run is to have.
    """
    if not (
        isinstance(extra, dict)
        and isinstance(meta, dict)
        and {"adam", "best"} <= extra.keys()
        and {"iteration", "best"} <= meta.keys()
        and _is_count(meta["iteration"], iterations)
        and _is_adam(extra["adam"], [each for group in optimizer.param_groups for each in group["params"]])
        and _is_best(meta["best"], extra["best"], state, meta["iteration"])
    ):
        raise InputError(f"{source} is damaged: it is no checkpoint of this run; restore it from a copy.")


def _is_count(value: Any, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _is_adam(state: Any, parameters: list[Tensor]) -> bool:
    if not isinstance(state, dict) or not all(_is_count(index, len(parameters) - 1) for index in state):
        return False
    step = torch.zeros(())
    own = {index: {"step": step, "exp_avg": parameters[index], "exp_avg_sq": parameters[index]} for index in state}
    return all(_alike(state[index], moments) for index, moments in own.items())


def _is_best(best: Any, kept: Any, state: Mapping[str, Any], iteration: int) -> bool:
    if best is None or kept is None:
        return best is kept
    return (
        isinstance(best, dict)
        and _is_count(best.get("iteration"), iteration)
        and isinstance(best.get("measure"), str)
        and isinstance(best.get(best["measure"]), int | float)
        and _alike(kept, state)
    )


def _alike(kept: Any, own: Mapping[str, Any]) -> bool:
    """Returns whether both have the same names, and tensors of the same shapes."""
    return (
        isinstance(kept, dict)
        and kept.keys() == own.keys()
        and all(
            isinstance(kept[name], Tensor) and kept[name].shape == value.shape
            for name, value in own.items()
            if isinstance(value, Tensor)
        )
    )
