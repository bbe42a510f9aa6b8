"""Checks settings that have to be counts or rates."""

from __future__ import annotations

import math
from numbers import Integral
from typing import SupportsFloat

from .errors import InputError, in_digits

MOST = 2**31 - 1  # no count needs more, and torch cannot make a tensor for far larger ones


def check_counts(least: int = 1, model: str | None = None, /, **counts: int) -> None:
    """Raises `InputError` for the first count that is no whole number of at least `least`, or is above `MOST`.

    Args:
        least: the least value of every count.
        model: the model's name for the message, if the counts are its sizes.
    """
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral) or count < least:
            said = f"The model '{model}' cannot have {name}={count!r}" if model else f"{name} is {count!r}"
            raise InputError(f"{said}; it must be a whole number of at least {least}.")
        if count > MOST:
            raise InputError(f"{name} is {in_digits(count)}; it must be at most {MOST}.")


def check_rate(**rates: float) -> None:
    """Raises `InputError` for the first rate that is no positive number."""
    for name, rate in rates.items():
        number = isinstance(rate, SupportsFloat) and not isinstance(rate, bool)
        if not (number and is_finite(rate) and rate > 0):
            said = in_digits(rate) if isinstance(rate, int) else repr(rate)
            raise InputError(f"{name} is {said}; it must be a positive number.")


def is_finite(number: SupportsFloat) -> bool:
    """Returns whether a number is a finite float: neither NaN nor infinite, nor a whole number beyond all floats."""
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
