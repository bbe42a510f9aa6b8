"""How the outer loop's rate goes on over a run."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..errors import InputError

WARM_UP = 0.1  # of the run

# The fraction of the run that is done, 0 to 1 -> the factor of the rate.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    # Without normalisation the first steps of Adam at the full rate leave weights of twice the size for good.
    "warmup_cosine": lambda done: min((done + 1e-3) / WARM_UP, 0.5 * (1 + math.cos(math.pi * done))),
}


def check_schedule(name: str) -> None:
    """Raises `InputError` for a schedule that does not exist."""
    if not isinstance(name, str) or name not in SCHEDULES:  # what a damaged config holds may have no hash
        raise InputError(f"Unknown schedule '{name}'; it is one of {', '.join(SCHEDULES)}.")
