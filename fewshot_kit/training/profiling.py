"""Profiles a training run: a trace of a few iterations, and the slowest operators."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from ..errors import InputError
from .hooks import Hooks

if TYPE_CHECKING:
    from .state import Training

SKIPPED, RECORDED = 3, 5  # iterations; the first ones are slower than the rest, so they are skipped
OPERATORS = 10


class Profiler(Hooks):
    """Writes `trace.json` (for a browser: chrome://tracing or ui.perfetto.dev) and `operators.txt` into a folder.

    Args:
        folder: the run folder or any other folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.profile: profile | None = None

    def on_start(self, training: Training) -> None:
        if training.iterations - training.iteration < SKIPPED + RECORDED:
            raise InputError(
                f"Profiling takes {SKIPPED + RECORDED} iterations, and there are "
                f"{training.iterations - training.iteration} to go; ask for more, or leave --profile out."
            )
        self.first = training.iteration

    def on_iteration(self, training: Training) -> None:
        done = training.iteration - self.first
        if done == SKIPPED:
            devices = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
            self.profile = profile(activities=devices)
            self.profile.start()
        elif done == SKIPPED + RECORDED and self.profile is not None:
            self.profile.stop()
            self.folder.mkdir(parents=True, exist_ok=True)
            self.profile.export_chrome_trace(str(self.folder / "trace.json"))
            (self.folder / "operators.txt").write_text(self.table() + "\n")
            self.profile = None

    def table(self) -> str:
        """Returns a table of the operators that took the most time themselves, over the recorded iterations."""
        assert self.profile is not None
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        return self.profile.key_averages().table(sort_by=by, row_limit=OPERATORS, max_name_column_width=48)

    def on_exit(self, training: Training) -> None:
        if self.profile is not None:  # the run stopped while the profiler was recording
            self.profile.stop()
            self.profile = None
