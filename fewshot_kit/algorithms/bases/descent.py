"""What an algorithm tells of an inner loop of plain gradient steps, so that an engine can take the steps itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from ...errors import InputError
from ...modules.batch_norm import Policy
from .inner_loop import Rule

# The methods that make up an inner loop and its answer.
METHODS = (
    "loss", "adapt", "predict", "trajectory", "start", "descend", "remembered", "support_loss", "answered", "run",
)  # fmt: skip


class Descent(NamedTuple):
    """An inner loop that takes plain steps, p - rate * gradient of the criterion on the support set."""

    rates: Mapping[str, float]  # of each adapting parameter of the model, by name
    steps: int
    first_order: bool
    policy: Policy  # of batch norm


def check_methods(own: type, base: type, same: Mapping[str, Callable[..., Any]]) -> None:
    """Raises `InputError` if a class overrides one of `METHODS` of its base, but for those that are in `same`."""
    for method in METHODS:
        if getattr(own, method) not in (getattr(base, method), same.get(method)):
            raise InputError(f"{own.__name__} takes no plain steps: it has its own {method}().")


def plain_rates(rule: Rule, names: Iterable[str], who: str) -> dict[str, float]:
    """Returns the rate of each parameter; raises `InputError` if the rule is not plain, or its rates are tensors."""
    rates = rule.rates
    if rates is None:
        raise InputError(f"The update rule of {who} is not plain gradient descent.")
    found = {name: rates[name] if isinstance(rates, Mapping) else rates for name in names}
    plain = {name: float(rate) for name, rate in found.items() if isinstance(rate, int | float)}
    if len(plain) < len(found):
        raise InputError(f"{who} learns its rates, one for each element.")
    return plain
