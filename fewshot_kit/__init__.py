"""fewshot_kit adapts any `nn.Module` to a new task in one line. It has models, algorithms and data sets by name."""

from typing import TYPE_CHECKING

from . import lazy

if TYPE_CHECKING:
    from . import algorithms, datasets, engines, features, models
    from .adaptation.adapting import Learner, adapt
    from .algorithms import Algorithm
    from .episodes import Episode
    from .evaluation import evaluate
    from .runs.checkpoints import load, save
    from .training.outer_loop import meta_train
else:
    __getattr__, __dir__ = lazy.attach(
        __name__,
        {
            "Algorithm": ".algorithms",
            "Episode": ".episodes",
            "Learner": ".adaptation.adapting",
            "adapt": ".adaptation.adapting",
            "evaluate": ".evaluation",
            "load": ".runs.checkpoints",
            "meta_train": ".training.outer_loop",
            "save": ".runs.checkpoints",
        },
    )

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Episode",
    "Learner",
    "adapt",
    "algorithms",
    "datasets",
    "engines",
    "evaluate",
    "features",
    "load",
    "meta_train",
    "models",
    "save",
]
