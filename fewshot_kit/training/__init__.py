"""Meta-training: the outer loop, what it sees and starts from, and what watches it."""

from .hooks import Hooks, ProgressBar
from .outer_loop import meta_train
from .state import Training, TrainingResult

__all__ = ["Hooks", "ProgressBar", "Training", "TrainingResult", "meta_train"]
