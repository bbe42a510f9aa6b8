"""`adapt`'s check that a learner fits its own support set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..errors import InputError, MisfitWarning
from ..modules.batching import in_batches
from .learner import Learner

FITTED = 0.5  # least accuracy on the support set, as a share of the way from chance to 1
DESCENDED = 0.9  # the same for a plain module that was trained on it; less means too few steps or a wrong rate


def check_finite(algorithm: Algorithm, state: Any) -> None:
    """Raises `InputError` if adapting led to NaN or infinity."""
    bad = next((name for name, tensor in _tensors(state) if not tensor.isfinite().all()), None)
    if bad is None:
        return
    before = [name for name, p in algorithm.named_parameters() if p.is_floating_point() and not p.isfinite().all()]
    if before:
        raise InputError(f"The model's own '{before[0]}' is not finite before any adapting; check its weights.")
    lr = f" (lr is {algorithm.lr:g})" if algorithm.lr is not None else ""
    raise InputError(
        f"Adapting with {type(algorithm).__name__} has led to values that are not finite in '{bad}'{lr}; lower lr, "
        "adapt in float32, or leave algorithm= out."
    )


def _tensors(state: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields the floating-point tensors of a state with their paths in it. The state may hold other values too."""
    if isinstance(state, Tensor):
        if state.is_floating_point():
            yield path or "state", state
    elif isinstance(state, dict | list | tuple):
        for key, value in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _tensors(value, f"{path}/{key}" if path else str(key))


def fit(algorithm: Algorithm, state: Any, x: Tensor, y: Tensor) -> float:
    """Returns how well a state fits its own support set: 1 is perfect, 0 is chance or the mean of the targets."""
    with torch.no_grad():
        scores = algorithm.predict(state, x) if algorithm.together else in_batches(partial(algorithm.predict, state), x)
    if not scores.isfinite().all():
        return -math.inf
    if y.is_floating_point():
        spread = (y - y.mean(0)).square().mean()
        return float(1 - (scores.reshape(y.shape) - y).square().mean() / spread) if spread > 0 else 1.0
    ways = int(y.max()) + 1
    return (float((scores[:, :ways].argmax(-1) == y).double().mean()) * ways - 1) / (ways - 1)


def warn_of_misfit(learner: Learner, x: Tensor, y: Tensor, wanted: float) -> None:
    """Warns if a learner does not fit its own support set.

    Args:
        x, y: the support set.
        wanted: the least fit, for classes.
    """
    fitted = fit(learner.algorithm, learner.state, x, y)
    if fitted == -math.inf:
        raise InputError(
            f"The scores of {type(learner.algorithm).__name__} on its own support set are not finite; lower lr, adapt "
            "in float32, or leave algorithm= out."
        )
    if fitted >= (wanted if learner.classes else 0.0):
        return
    lr, steps = learner.algorithm.lr, learner.algorithm.steps
    how = "" if lr is None or steps is None else f" after {steps} step{'s' * (steps != 1)} at lr={lr:g}"
    if learner.classes:
        right = round((fitted * (len(learner.classes) - 1) + 1) / len(learner.classes) * len(x))
        said = f"{right} of its own {len(x)} support examples right (chance is {len(x) / len(learner.classes):.0f})"
    else:
        said = f"its own {len(x)} targets worse than their mean does"
    fix = "take more steps or another lr" if how else "meta-train it first"
    warnings.warn(
        f"{type(learner.algorithm).__name__} gets {said}{how}: expect no more of new ones; {fix}, or adapt the plain "
        "model without algorithm=, which chooses by itself.",
        MisfitWarning,
        stacklevel=4,  # the line that calls adapt, past its decorator
    )
