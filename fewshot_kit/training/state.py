"""The state of a training run, and its result."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from .. import engines
from ..algorithms import Algorithm
from ..datasets.splits.contract import DataSet
from .finite import Measured
from .settings import TrainingSettings
from .snapshots import check_snapshot


@dataclasses.dataclass
class Training:
    """The state of a run. Hooks get it to read."""

    algorithm: Algorithm
    data: DataSet
    optimizer: torch.optim.Optimizer
    settings: TrainingSettings  # these name the chosen engine
    choice: engines.Choice
    iteration: int = 0  # meta-updates done
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # one entry per iteration
    unread: list[Measured] = dataclasses.field(default_factory=list)  # on the device yet
    skipped: int = 0  # meta-updates that were left out, as far as `history` goes: a loss or gradient was not finite
    processes: engines.Processes = engines.Processes()  # that share each meta-batch
    stops: list[int] = dataclasses.field(default_factory=list)  # signals that ask this process to stop
    stopping: bool = False  # whether some process was asked to stop
    best: dict[str, Any] | None = None  # the best validation so far: iteration, measure, its mean, interval and loss
    best_state: dict[str, Any] | None = None  # the algorithm's state at the best validation

    @property
    def iterations(self) -> int:
        """The number of meta-updates asked for."""
        return self.settings.iterations

    @property
    def meta_batch(self) -> int:
        """The number of episodes per meta-update."""
        return self.settings.meta_batch

    def snapshot(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All that the iterations to come depend on beside the algorithm: tensors, and plain values."""
        extra = {"adam": self.optimizer.state_dict()["state"], "best": self.best_state}
        skipped = {"skipped": self.skipped} if self.skipped else {}
        return extra, {"iteration": self.iteration, "best": self.best, **skipped}

    def restore(self, extra: Any, meta: Any, source: str | Path) -> None:
        """Puts the run back to a `snapshot`, but for the algorithm, which has its state of then already.

        Raises:
            InputError: `source` holds something else, or more iterations than the run is to have.
        """
        check_snapshot(extra, meta, self.optimizer, self.algorithm.state_dict(), self.iterations, source)
        self.iteration, self.best, self.best_state = meta["iteration"], meta["best"], extra["best"]
        self.skipped = int(meta.get("skipped", 0))
        fresh = self.optimizer.state_dict()
        self.optimizer.load_state_dict(fresh | {"state": extra["adam"]})

    @property
    def due(self) -> bool:
        """Whether this iteration ends with a validation and a checkpoint."""
        return self.iteration % self.settings.validate_every == 0 or self.iteration == self.iterations

    @property
    def weights(self) -> str:
        """The weights that count: `"best"` by validation, or `"last"` if there was no validation."""
        return "last" if self.best is None else "best"


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """The result of `meta_train`."""

    iterations: int  # meta-updates done, including those before a resume
    weights: str  # the weights that the algorithm holds now: "best" by validation, or "last" without a validation split
    best: dict[str, Any] | None  # the best validation: iteration, measure, its mean, interval and loss
    history: list[dict[str, Any]] = dataclasses.field(repr=False)  # the lines of metrics.jsonl
    run: Path | None
    engine: str
    seconds: float  # of this call
    skipped: int = 0  # meta-updates that `on_nan="skip"` left out, those before a resume included
