"""The hook that writes the run folder during training, and that resumes a run after a kill."""

from __future__ import annotations

import contextlib
import copy
from pathlib import Path
from typing import Any

from .. import datasets
from ..errors import InputError
from ..evaluation import Evaluation
from ..runs import plots
from ..runs.checkpoints import digests, load_state, read_run, record_results, save_state, state_path
from ..runs.config import digest, digest_when_read, first_difference, plain, read_config, write_config
from ..runs.lock import training_lock
from ..runs.metrics import Metrics
from ..runs.storage import remove_unfinished, unwritable
from .hooks import Hooks
from .settings import TrainingSettings
from .state import Training


class Recorder(Hooks):
    """Writes the run folder: `config.yaml`, a line of `metrics.jsonl` per iteration, checkpoints, results and a plot.

    Metrics reach the disk before the checkpoint that counts on them, the best checkpoint before the last, so that a
    run killed anywhere goes on from `last` as if nothing had happened since. A checkpoint holds digests of the metrics
    and of the configurations that go with it; before `config.yaml` is replaced, it knows the old and the new one.

    From `begin` or `resume` to `on_exit` no other process can train there.

    Args:
        run: the folder.
        config: what `describe` gives of the run.
        accept_edited: go on with `config.yaml` and `metrics.jsonl` as they are, even if they were edited.
    """

    def __init__(self, run: str | Path, config: dict[str, Any], accept_edited: bool = False) -> None:
        self.run, self.config, self.accept_edited = Path(run), config, accept_edited
        self.metrics = Metrics(self.run / "metrics.jsonl")
        self.digests: list[str] = []  # of the contents of `config.yaml` that go with the checkpoints
        self.held = contextlib.ExitStack()

    def begin(self, training: Training) -> None:
        """Makes a new folder with a first checkpoint, of the untrained algorithm.

        Raises:
            InputError: the folder holds a run already.
        """
        self._lock()
        if (self.run / "config.yaml").exists():
            raise InputError(f"The run folder {self.run} exists; go on with it by --resume, or name another --run.")
        self.digests = [digest_when_read(self.config)]
        self.metrics.restart()
        self.checkpoint(training)
        write_config(self.run, self.config)  # the last of them: what has one can be resumed

    def resume(self, training: Training) -> None:
        """Puts the training back to the last checkpoint.

        Raises:
            InputError: no such run; a setting that differs; more iterations done than asked for; files that were edited
                or damaged.
        """
        recorded = read_run(self.run, self.accept_edited)
        self._lock()
        before = TrainingSettings.from_config(recorded, self.run / "config.yaml")
        grows = before.schedule == "constant" or not before.iterations
        there, asked = _comparable(recorded, grows), _comparable(self.config, grows)
        if "classes" not in asked.get("data", {}):  # older runs recorded classes for data sets that have none
            there.get("data", {}).pop("classes", None)
        difference = first_difference(there, asked)
        if difference:
            raise InputError(f"{self.run} cannot be resumed: {difference}; use the recorded settings or another --run.")
        if training.iterations < before.iterations:
            raise InputError(
                f"{self.run} was started for {before.iterations} iterations; ask for as many or more, not fewer."
            )
        self.digests = [digest(recorded)]
        if not state_path(self.run).exists():  # a run of an earlier version, killed before the very first checkpoint
            self.metrics.restart()
            self.checkpoint(training)
        extra, meta = load_state(state_path(self.run), training.algorithm)
        training.restore(extra, meta, state_path(self.run))
        known = digests(meta)
        training.history = self.metrics.rewind(training.iteration, None if self.accept_edited else known.get("metrics"))
        rewritten = training.iterations > before.iterations or training.settings.on_nan != before.on_nan
        if rewritten:
            self.digests.append(digest_when_read(self.config))
        if training.best is not None:  # the best on disk may be of a later iteration, which will be repeated
            self._keep_best(training)
        if known != self._known():
            self.checkpoint(training)
        if rewritten:
            write_config(self.run, self.config)
            self.digests = self.digests[-1:]

    def _lock(self) -> None:
        """Keeps other processes out, and removes what killed ones left half-written."""
        try:
            self.run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.run / "config.yaml", error) from error
        if self.held.enter_context(training_lock(self.run)):
            for folder in (self.run, state_path(self.run).parent):
                remove_unfinished(folder)

    def _known(self) -> dict[str, Any]:
        return {"config": self.digests, "metrics": self.metrics.digest}

    def _keep_best(self, training: Training) -> None:
        path = state_path(self.run, "best")
        meta = {"best": training.best, "sha256": {"config": self.digests}}
        save_state(path, training.algorithm, meta=meta, state=training.best_state)

    def checkpoint(self, training: Training) -> None:
        """Writes `checkpoints/last.safetensors`, with everything that later iterations depend on."""
        self.metrics.append(training.history)
        self.metrics.sync()
        extra, meta = training.snapshot()
        save_state(state_path(self.run), training.algorithm, extra, meta | {"sha256": self._known()})

    def on_validation(self, training: Training, evaluation: Evaluation) -> None:
        if training.best is not None and training.best["iteration"] == training.iteration:
            self._keep_best(training)

    def on_iteration(self, training: Training) -> None:
        self.metrics.append(training.history)
        if training.due:
            self.checkpoint(training)

    def on_end(self, training: Training) -> None:
        summary = {"iterations": training.iteration, "weights": training.weights, "validation": training.best}
        record_results(self.run, {"training": summary})
        if training.history:
            plots.curve(training.history, self.run / "curve.png")

    def on_exit(self, training: Training) -> None:
        self.metrics.close()
        self.held.close()


class TestPlan(Hooks):
    """Records the number of test tasks in the run's `config.yaml`, so that a resumed or second run has as many."""

    def __init__(self, run: Path, episodes: int) -> None:
        self.run, self.episodes = run, episodes

    def on_start(self, training: Training) -> None:
        write_config(self.run, read_config(self.run) | {"test": {"test_episodes": self.episodes}})


def _comparable(config: dict[str, Any], grows: bool) -> dict[str, Any]:
    """Returns a configuration without what may change on resuming.

    These are the places of classes and data, the statistics of the data, the plan of the test, what is done about NaN,
    and the number of iterations, unless the rates that were used already depend on it.
    """
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
    if data.get("transform"):  # an older run lacks the fields that its version did not have
        data["transform"] = plain(datasets.Transform(image_size=1)) | data["transform"]
    data.pop("statistics", None)  # runs of earlier versions lack them
    return config
