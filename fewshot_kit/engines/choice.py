"""The choice of an engine and its settings, which runs meta-batches."""

from __future__ import annotations

import contextlib
import gc
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..episodes import Episode
from ..errors import InputError, SmallerChunkWarning
from ..modules.place import device_of
from ..seeds import set_states, states
from . import factored, loop, reference, vmap
from .compiled import Program
from .refusals import TooLarge, explained, within_memory
from .replicas import Copies
from .results import Result
from .workers import on_threads

CHUNKED = ("factored", "vmap")  # the engines that run several episodes at a time

Found = TypeVar("Found")
Way = Callable[["Choice", Algorithm, Episode], Found]


@dataclass(frozen=True)
class Choice:
    """An engine and its settings. It runs meta-batches."""

    engine: str  # "factored", "vmap", "loop" or "reference"
    chunk: int | None = None  # episodes that "factored" or "vmap" (or each of its workers) runs at a time; None: all
    # Threads. Each runs one episode of "loop" or one chunk of "vmap", and all together the operators of "factored".
    workers: int | None = None
    compiled: bool = False
    unfold: bool = False  # "vmap" runs convolutions as matrix products
    why: str = "as asked for"
    program: Program | None = field(default=None, repr=False, compare=False)
    copies: Copies = field(default_factory=Copies, repr=False, compare=False)  # for the workers
    # What the memory has forced so far, the smallest choice last.
    smaller: list[Choice] = field(default_factory=list, init=False, repr=False, compare=False)

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

        If the memory does not suffice, it begins again with half as many episodes at a time, warns of it, and stays
        with that number. The result is the same.

        Raises:
            InputError: the engine cannot run the model, or has no memory for one episode.
        """
        return self._in_memory(Choice.once, algorithm, episodes)

    def predict(self, algorithm: Algorithm, episodes: Episode) -> Tensor:
        """Returns query scores `[T, Q, classes]` without a graph, in as much memory as there is, as `run` does."""
        return self._in_memory(Choice.predict_once, algorithm, episodes)

    def _in_memory(self, way: Way[Found], algorithm: Algorithm, episodes: Episode) -> Found:
        device = device_of(algorithm)
        drawn_from, tasks = states(device), len(episodes.support_x)
        while True:
            now = self.smaller[-1] if self.smaller else self
            try:
                return way(now, algorithm, episodes)
            except TooLarge:
                less = now.halved(algorithm, tasks)
                if less is None:
                    raise
            # The failed attempt's tensors are gone only now: its traceback held them.
            self.smaller.append(less)
            asked = f"chunk={less.chunk}" if less.chunk != now.chunk else f"workers={less.workers}"
            said = f"The engine '{now.name}' ran out of memory on {tasks} episodes, and goes on as '{less.name}'"
            warnings.warn(f"{said}; {asked} begins with that.", SmallerChunkWarning, stacklevel=4)
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            set_states(device, drawn_from)

    def halved(self, algorithm: Algorithm, tasks: int) -> Choice | None:
        """Returns the choice with half as many of `tasks` episodes at a time, or None if it is one already."""
        workers = self.workers or (loop.usual_workers(algorithm) if self.engine == "loop" else 1)
        workers = 1 if self.engine == "factored" else min(workers, tasks)
        chunk = min(self.chunk or tasks, math.ceil(tasks / workers))
        if self.engine in CHUNKED and chunk > 1:
            return replace(self, chunk=math.ceil(chunk / 2))
        if self.engine in ("vmap", "loop") and workers > 1:
            return replace(self, workers=math.ceil(workers / 2))
        return None

    def once(self, algorithm: Algorithm, episodes: Episode) -> Result:
        """As `run`, but raises `TooLarge` if the memory does not suffice."""
        if self.program is not None:
            with within_memory(algorithm, self.engine), on_threads(self.workers):
                return self.program(algorithm, episodes, self.chunk)
        with explained(algorithm, self.engine, episodes):
            if self.engine == "factored":
                with on_threads(self.workers):
                    return factored.run(algorithm, episodes, self.chunk)
            if self.engine == "vmap":
                return vmap.run(algorithm, episodes, self.chunk, self.workers, self.copies, self.unfold)
            if self.engine == "loop":
                return loop.run(algorithm, episodes, self.workers, self.copies)
            return reference.run(algorithm, episodes)

    def predict_once(self, algorithm: Algorithm, episodes: Episode) -> Tensor:
        """As `predict`, but raises `TooLarge` if the memory does not suffice."""
        with explained(algorithm, self.engine, episodes):
            if self.engine == "factored":
                with on_threads(self.workers):
                    return factored.predict(algorithm, episodes, self.chunk)
            if self.engine == "vmap":
                return vmap.predict(algorithm, episodes, self.chunk, self.unfold)
            return loop.predict(algorithm, episodes, self.workers, self.copies)

    def for_evaluation(self, algorithm: Algorithm) -> Choice:
        """Returns the choice for evaluation: the loop for convolutional nets on a CPU, else this choice.

        Evaluation has many queries per task, and `vmap` gains nothing there. Options may be others than in training,
        so that `factored` does not apply any more.
        """
        looped = self.engine in CHUNKED and loop.convolutional_on_cpu(algorithm)
        if self.engine == "factored" and not looped:
            with contextlib.suppress(InputError):
                algorithm.descent()
                return self
            looped = True
        return Choice("loop", workers=loop.usual_workers(algorithm)) if looped else self
