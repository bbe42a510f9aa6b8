"""What the algorithms share that learn the rates of their inner loop."""

from __future__ import annotations

from .gradient_based import GradientBased


class LearnedRate(GradientBased):
    """`lr`, and `head_lr` where there is one, are where the rates start."""

    fixed = frozenset({"lr", "head_lr"})
    takes_rules = False
