"""The base of the algorithms that learn the learning rates of their inner loop."""

from __future__ import annotations

from .gradient_based import GradientBased


class LearnedRate(GradientBased):
    """The rates are learned. `lr`, and `head_lr` if the algorithm takes one, are their initial values."""

    fixed = frozenset({"lr", "head_lr"})
    takes_rules = False
