"""A run that several processes share: all start from the first one's weights, optimiser and engine."""

from __future__ import annotations

import dataclasses
from typing import Any

from .. import engines
from ..algorithms import Algorithm
from ..engines import Processes
from ..episodes import Episode
from ..runs.checkpoints import fill
from ..runs.storage import flatten, packed, unflatten, unpacked
from .settings import TrainingSettings
from .state import Training


def synchronise(training: Training) -> None:
    """Gives every process the state of the first one, which may have read it from a checkpoint."""
    processes = training.processes
    if processes.size == 1:
        return

    def state() -> bytes:
        extra, meta = training.snapshot()
        tensors, structure = flatten({"algorithm": dict(training.algorithm.state_dict()), "extra": extra})
        return packed(tensors, {"structure": structure, "kept": meta})

    sent = processes.agreed(state)
    if not processes.leads:
        tensors, meta = unpacked(sent, "the first process's state")
        found = unflatten(tensors, meta["structure"])
        fill(training.algorithm, found["algorithm"], "the first process's state")
        training.restore(found["extra"], meta["kept"], "the first process's state")


def common_choice(
    processes: Processes, algorithm: Algorithm, own: Episode, settings: TrainingSettings
) -> engines.Choice:
    """Returns the engine for a process's slice. All measure at once, and the first one's choice is taken."""
    if processes.size == 1:
        return engines.choose(algorithm, own, **settings.running)

    def chosen(running: dict[str, Any]) -> engines.Choice:
        chunk = running["chunk"]  # may be larger than a slice, and is recorded for any number of processes
        fitting = None if chunk is None else min(chunk, len(own.query_y))
        choice = engines.choose(algorithm, own, **running | {"chunk": fitting})
        return choice if chunk is None else dataclasses.replace(choice, chunk=chunk)

    choice = chosen(settings.running)
    told = processes.agreed(choice.settings)
    return choice if choice.settings() == told else chosen(told)
