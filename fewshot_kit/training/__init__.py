"""Meta-training: the outer loop, its data and initial weights, and the hooks that watch it."""

from typing import TYPE_CHECKING

from .. import lazy

if TYPE_CHECKING:
    from .hooks import Hooks, ProgressBar
    from .outer_loop import meta_train
    from .state import Training, TrainingResult
else:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "Hooks": ".hooks",
            "ProgressBar": ".hooks",
            "Training": ".state",
            "TrainingResult": ".state",
            "meta_train": ".outer_loop",
        },
    )

__all__ = ["Hooks", "ProgressBar", "Training", "TrainingResult", "meta_train"]
