"""The choice of an engine and its settings, which runs meta-batches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode
from . import loop, reference, vmap
from .compiled import Program
from .refusals import explained
from .replicas import Copies
from .results import Result


@dataclass(frozen=True)
class Choice:
    """An engine and its settings. It runs meta-batches."""

    engine: str  # "vmap", "loop" or "reference"
    chunk: int | None = None  # episodes that "vmap" (or each of its workers) runs at a time; None: all
    workers: int | None = None  # threads; each runs one episode of "loop", or one chunk of "vmap"
    compiled: bool = False
    unfold: bool = False  # "vmap" runs convolutions as matrix products
    why: str = "as asked for"
    program: Program | None = field(default=None, repr=False, compare=False)
    copies: Copies = field(default_factory=Copies, repr=False, compare=False)  # for the workers

    @property
    def name(self) -> str:
        """The engine and its settings in words."""
        chunks = "" if self.chunk is None else f" in chunks of {self.chunk}"
        workers = "" if self.workers is None else f" on {self.workers} worker{'s' if self.workers != 1 else ''}"
        unfolded = " by unfolding" if self.unfold else ""
        return f"{self.engine}{unfolded}{chunks}{workers}"

    def __str__(self) -> str:
        return f"{self.name}{', compiled' if self.compiled else ''} ({self.why})"

    def settings(self) -> dict[str, Any]:
        """Returns the settings that a run records, so that it can be repeated."""
        settings = {"engine": self.engine, "chunk": self.chunk, "workers": self.workers}
        return settings | {"compile": self.compiled, "unfold": self.unfold}

    def run(self, algorithm: Algorithm, episodes: Episode) -> Result:
        """Returns losses, scores and summed gradients of a meta-batch.

        Raises:
            InputError: the engine cannot run the model.
        """
        if self.program is not None:
            return self.program(algorithm, episodes, self.chunk)
        with explained(algorithm, self.engine, episodes):
            if self.engine == "vmap":
                return vmap.run(algorithm, episodes, self.chunk, self.workers, self.copies, self.unfold)
            if self.engine == "loop":
                return loop.run(algorithm, episodes, self.workers, self.copies)
            return reference.run(algorithm, episodes)

    def predict(self, algorithm: Algorithm, episodes: Episode) -> Tensor:
        """Returns query scores `[T, Q, classes]` without a graph."""
        with explained(algorithm, self.engine, episodes):
            if self.engine == "vmap":
                return vmap.predict(algorithm, episodes, self.chunk, self.unfold)
            return loop.predict(algorithm, episodes, self.workers, self.copies)

    def for_evaluation(self, algorithm: Algorithm) -> Choice:
        """Returns the choice for evaluation: the loop for convolutional nets on a CPU, else this choice.

        Evaluation has many queries per task, and `vmap` gains nothing there.
        """
        if self.engine == "vmap" and loop.convolutional_on_cpu(algorithm):
            return Choice("loop", workers=loop.usual_workers(algorithm))
        return self
