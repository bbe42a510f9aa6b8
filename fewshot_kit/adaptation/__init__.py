"""One task: a support set in, a predictor out."""

from .adapting import adapt
from .learner import Learner

__all__ = ["Learner", "adapt"]
