"""What the algorithms share that learn the rates of their inner loop."""

from __future__ import annotations

from ..errors import InputError
from .gradient_based import GradientBased


class LearnedRate(GradientBased):
    """`lr` is where the rates start: it is set once."""

    takes_rules = False

    @property
    def lr(self) -> float:
        """Where the rates started."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        if "_lr" in vars(self):
            name = type(self).__name__
            raise InputError(f"{name} has learned its rates; lr is where they started, and cannot be replaced now.")
        self._lr = value
