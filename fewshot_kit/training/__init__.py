"""Meta-training: the outer loop, its data and initial weights, and the hooks that watch it."""

from .hooks import Hooks, ProgressBar
from .outer_loop import meta_train
from .state import Training, TrainingResult

__all__ = ["Hooks", "ProgressBar", "Training", "TrainingResult", "meta_train"]
