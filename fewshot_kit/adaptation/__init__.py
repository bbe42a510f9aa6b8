"""Adapts models to one task: `adapt` takes a support set and returns a predictor."""

from .adapting import adapt
from .learner import Learner

__all__ = ["Learner", "adapt"]
