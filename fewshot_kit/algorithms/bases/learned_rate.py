"""What the algorithms share that learn the rates of their inner loop."""

from __future__ import annotations

from typing import Any

from ...errors import InputError
from .gradient_based import GradientBased


class Start:
    """Where learned rates start: an attribute that is set once."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, algorithm: Any, owner: type) -> Any:
        if algorithm is None:
            return self
        if f"_{self.name}" not in vars(algorithm):
            raise AttributeError(f"{type(algorithm).__name__} has no {self.name}")
        return vars(algorithm)[f"_{self.name}"]

    def __set__(self, algorithm: Any, value: float | None) -> None:
        if f"_{self.name}" in vars(algorithm):
            raise InputError(
                f"{type(algorithm).__name__} has learned its rates; {self.name} is where they started, and cannot be "
                "replaced now."
            )
        vars(algorithm)[f"_{self.name}"] = value


class LearnedRate(GradientBased):
    """`lr`, and `head_lr` where there is one, are where the rates start: they are set once."""

    takes_rules = False
    lr: float = Start()  # type: ignore[assignment]
    head_lr: float | None = Start()  # type: ignore[assignment]
