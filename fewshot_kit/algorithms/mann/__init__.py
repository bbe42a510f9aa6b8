"""Memory-augmented networks: the one algorithm of several files."""

from .algorithm import MANN

__all__ = ["MANN"]
