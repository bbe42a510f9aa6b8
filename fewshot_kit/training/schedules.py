"""Schedules of the outer loop's learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import InputError

WARM_UP = 0.1  # fraction of the run

# Each maps the fraction of the run that is done, 0 to 1, to a factor of the learning rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    # In a network without normalisation, Adam's first steps at the full rate make the weights twice as large for good.
    "warmup_cosine": lambda done: min((done + 1e-3) / WARM_UP, 0.5 * (1 + math.cos(math.pi * done))),
}


def check_schedule(name: str) -> None:
    """Raises `InputError` if the schedule does not exist."""
    if not isinstance(name, str) or name not in SCHEDULES:  # what a damaged config holds may have no hash
        raise InputError(f"Unknown schedule '{name}'; it is one of {', '.join(SCHEDULES)}.")
