"""Hooks, which watch a training run. The trainer's own progress bar and recorder are hooks too."""

from __future__ import annotations

import sys
import time

from ..evaluation import Evaluation
from .state import Training


class Hooks:
    """Does nothing at every point of a run. Subclasses override the methods they need.

    `training` is the state of the run.
    """

    def on_start(self, training: Training) -> None:
        """Runs before the first iteration of this call, new or resumed."""

    def on_validation(self, training: Training, evaluation: Evaluation) -> None:
        """Runs after each validation, and before `on_iteration` of the same iteration."""

    def on_iteration(self, training: Training) -> None:
        """Runs after each meta-update.

        `training.history` holds the loss and accuracy of each meta-update. On a GPU it may be some iterations behind,
        because reading figures back takes time. At a validation it is complete.
        """

    def on_end(self, training: Training) -> None:
        """Runs after the last iteration, with the best weights restored."""

    def on_exit(self, training: Training) -> None:
        """Runs at the very end, even after an error or an interrupt, to release files and other resources."""


class ProgressBar(Hooks):
    """Shows a tqdm bar with loss and accuracy, averaged over the last 20 iterations, and tasks/s over this call.

    Where stderr is no terminal, it says nothing but the engine and validations whose scores are not finite.
    """

    def on_start(self, training: Training) -> None:
        from tqdm import tqdm

        done, total = training.iteration, training.iterations
        self.bar = tqdm(total=total, initial=done, desc="meta-train", unit="iteration", disable=None)
        self.first, self.started = training.iteration, time.perf_counter()
        tqdm.write(f"engine: {training.choice}", file=sys.stderr)

    def on_validation(self, training: Training, evaluation: Evaluation) -> None:
        from tqdm import tqdm

        if evaluation.not_finite:
            tqdm.write(f"validation at iteration {training.iteration}: {evaluation}", file=sys.stderr)

    def on_iteration(self, training: Training) -> None:
        recent = [line for line in training.history[-20:] if "skipped" not in line]
        keys: list[str] = [key for key in ("loss", "accuracy") if recent and key in recent[-1]]
        shown = {key: sum(line[key] for line in recent) / len(recent) for key in keys}
        if training.best is not None:
            measure = training.best["measure"]
            shown[f"best {measure}"] = training.best[measure]
        tasks = (training.iteration - self.first) * training.meta_batch
        speed = f"{tasks / (time.perf_counter() - self.started):.0f} tasks/s"
        skipped = [f"skipped {training.skipped}"] if training.skipped else []
        self.bar.set_postfix_str(
            ", ".join([*(f"{key} {value:.3f}" for key, value in shown.items()), *skipped, speed]), refresh=False
        )
        self.bar.update()

    def on_exit(self, training: Training) -> None:
        self.bar.close()
