"""Memory-augmented neural networks (MANN)."""

from .algorithm import MANN

__all__ = ["MANN"]
