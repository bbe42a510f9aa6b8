"""The run folder, as a hook of the trainer: what is written while a run lasts, and how it goes on after a kill."""

from __future__ import annotations

import copy
import io
import json
import os
from pathlib import Path
from typing import Any

from .. import datasets
from ..errors import InputError
from ..evaluation import Evaluation
from ..runs import plots
from ..runs.checkpoints import load_state, record_results, save_state, state_path
from ..runs.config import first_difference, plain, read_config, write_config
from ..runs.storage import unwritable, write_bytes
from .hooks import Hooks
from .settings import TrainingSettings
from .state import Training


class Recorder(Hooks):
    """The run folder: `config.yaml`, a line of `metrics.jsonl` per iteration, checkpoints, results and the curve.

    Metrics reach the disk before the checkpoint that counts on them, the best checkpoint before the last, so that a
    run killed anywhere goes on from `last` as if nothing had happened since.
    """

    def __init__(self, run: str | Path, config: dict[str, Any]) -> None:
        self.run, self.config = Path(run), config
        self.metrics = self.run / "metrics.jsonl"
        self.file: io.FileIO | None = None
        self.written = 0  # lines of `metrics.jsonl`

    def begin(self, training: Training) -> None:
        """A new folder, with a first checkpoint of the untrained algorithm. `InputError` where one is already."""
        if (self.run / "config.yaml").exists():
            raise InputError(f"The run folder {self.run} exists; go on with it by --resume, or name another --run.")
        write_config(self.run, self.config)
        write_bytes(self.metrics, b"")
        self.checkpoint(training)

    def resume(self, training: Training) -> None:
        """Put the training back to the last checkpoint.

        Raises:
            InputError: no such run; a setting that differs; more iterations done than asked for.
        """
        recorded = read_config(self.run)
        before = TrainingSettings.from_config(recorded)
        grows = before.schedule == "constant" or not before.iterations
        there, asked = _comparable(recorded, grows), _comparable(self.config, grows)
        if "classes" not in asked.get("data", {}):  # older runs gave one to data sets that have none
            there.get("data", {}).pop("classes", None)
        difference = first_difference(there, asked)
        if difference:
            raise InputError(f"{self.run} cannot be resumed: {difference}; use the recorded settings or another --run.")
        if training.iterations < before.iterations:
            raise InputError(
                f"{self.run} was started for {before.iterations} iterations; ask for as many or more, not fewer."
            )
        if not state_path(self.run).exists():  # killed before the very first checkpoint
            write_bytes(self.metrics, b"")
            self.checkpoint(training)
        extra, meta = load_state(state_path(self.run), training.algorithm)
        training.restore(extra, meta, state_path(self.run))
        training.history = self._rewind(training.iteration)
        training.skipped = sum("skipped" in line for line in training.history)
        if training.best is not None:  # the one on disk may be of a later iteration, which is to come again
            self._keep_best(training)
        if training.iterations > before.iterations or training.settings.on_nan != before.on_nan:
            write_config(self.run, self.config)

    def _rewind(self, iteration: int) -> list[dict[str, Any]]:
        """Cut `metrics.jsonl` back to the checkpoint: later lines, and one that a kill left unfinished, go."""
        kept = self.metrics.read_bytes().splitlines(keepends=True)[:iteration]
        try:
            history = [json.loads(line) for line in kept]
            numbers = [line["iteration"] for line in history]
        except (ValueError, LookupError, TypeError, RecursionError):
            numbers = []
        if numbers != list(range(1, iteration + 1)):
            raise InputError(f"{self.metrics} does not hold iterations 1 to {iteration}; restore it from a copy.")
        write_bytes(self.metrics, b"".join(kept))
        return history

    def _keep_best(self, training: Training) -> None:
        path = state_path(self.run, "best")
        save_state(path, training.algorithm, meta={"best": training.best}, state=training.best_state)

    def checkpoint(self, training: Training) -> None:
        """Write `checkpoints/last.safetensors`: all that the iterations to come depend on."""
        if self.file is not None:
            os.fsync(self.file.fileno())
        save_state(state_path(self.run), training.algorithm, *training.snapshot())

    def on_start(self, training: Training) -> None:
        self.file = open(self.metrics, "ab", buffering=0)  # noqa: SIM115  closed by on_exit
        self.written = len(training.history)

    def on_validation(self, training: Training, evaluation: Evaluation) -> None:
        if training.best is not None and training.best["iteration"] == training.iteration:
            self._keep_best(training)

    def on_iteration(self, training: Training) -> None:
        assert self.file is not None
        fresh = training.history[self.written :]
        self.written = len(training.history)
        lines = b"".join(json.dumps(line).encode() + b"\n" for line in fresh)
        try:
            while lines:  # an unbuffered write may take a part only
                lines = lines[self.file.write(lines) :]
        except OSError as error:
            raise unwritable(self.metrics, error) from error
        if training.due:
            self.checkpoint(training)

    def on_end(self, training: Training) -> None:
        summary = {"iterations": training.iteration, "weights": training.weights, "validation": training.best}
        record_results(self.run, {"training": summary})
        if training.history:
            plots.curve(training.history, self.run / "curve.png")

    def on_exit(self, training: Training) -> None:
        if self.file is not None:
            self.file.close()


class TestPlan(Hooks):
    """Writes into the run how many test tasks are to follow, so that a resumed run, or a second one, has as many."""

    def __init__(self, run: Path, episodes: int) -> None:
        self.run, self.episodes = run, episodes

    def on_start(self, training: Training) -> None:
        write_config(self.run, read_config(self.run) | {"test": {"test_episodes": self.episodes}})


def _comparable(config: dict[str, Any], grows: bool) -> dict[str, Any]:
    """A configuration less what may change on resuming: where classes and data lie and what was measured of the data,
    what the test will be, what is done about NaN, and the iterations, unless the schedule of rates that were used
    already depends on them."""
    config = copy.deepcopy(config)
    config.pop("test", None)
    config.get("training", {}).pop("on_nan", None)
    for recipe in (config[part] for part in ("algorithm", "model", "data") if part in config):
        name = recipe.pop("class").rpartition(".")[2]
        recipe |= {} if "name" in recipe else {"class": name}
    if grows:
        config["training"].pop("iterations", None)
    data = config.get("data", {})
    data.get("options", {}).pop("root", None)
    if data.get("transform"):  # that of an older run says nothing of what it could not do
        data["transform"] = plain(datasets.Transform(image_size=1)) | data["transform"]
    data.pop("statistics", None)  # runs of earlier versions have none
    return config
