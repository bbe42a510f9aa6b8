"""The outer loop of meta-training."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..datasets.splits.contract import DataSet, TaskSplit
from ..engines.workers import one_thread
from ..evaluation import evaluate
from ..modules.modes import kept_modes
from .hooks import Hooks, ProgressBar
from .meta_update import meta_batches, meta_update, read_figures
from .preparation import prepare
from .recorder import Recorder
from .settings import USUAL, TrainingSettings
from .signals import stop_requests
from .state import Training, TrainingResult


def meta_train(
    algorithm: Algorithm,
    data: DataSet,
    *,
    ways: int = USUAL.ways,
    shots: int = USUAL.shots,
    queries: int = USUAL.queries,
    iterations: int = USUAL.iterations,
    meta_batch: int = USUAL.meta_batch,
    meta_lr: float = USUAL.meta_lr,
    schedule: str = USUAL.schedule,
    augmentation: str = USUAL.augmentation,
    init: str | Path | None = USUAL.init,
    seed: int = USUAL.seed,
    run: str | Path | None = None,
    resume: bool = False,
    accept_edited: bool = False,
    validate_every: int = USUAL.validate_every,
    validation_episodes: int = USUAL.validation_episodes,
    validation_queries: int = USUAL.validation_queries,
    validation_ways: int | None = USUAL.validation_ways,
    test_options: dict[str, Any] | None = None,
    on_nan: str = USUAL.on_nan,
    engine: str = USUAL.engine,
    chunk: int | None = USUAL.chunk,
    workers: int | None = USUAL.workers,
    compile: bool = USUAL.compile,
    unfold: bool = USUAL.unfold,
    exact: bool = USUAL.exact,
    device: torch.device | str | None = None,
    progress: bool = True,
    hooks: Sequence[Hooks] = (),
) -> TrainingResult:
    """Meta-trains an algorithm, in place, with Adam on the mean loss of a meta-batch.

    The defaults are those of `TrainingSettings`. The command line has the same ones.

    The algorithm's `draw` gives its training data: episodes, or labelled batches if it learns the classes directly.

    Iteration i draws its episodes and dropout masks from `seed` and i alone. So a run that was stopped and resumed
    gives bit for bit the results of an uninterrupted one, on the same machine. After training, the algorithm holds the
    weights of its best validation, or the last ones if the data set has no validation split.

    Inside an initialised process group of `torch.distributed` every process calls this with the same arguments. Each
    runs a slice of every meta-batch and of every validation, and all end with the same weights. The first one's
    weights are taken at the start, and it alone writes the run folder and shows the bar; hooks run on all.

    With a run folder, Ctrl-C or SIGTERM finishes the current iteration, writes a checkpoint and raises
    `KeyboardInterrupt`. A second Ctrl-C stops at once.

    Args:
        algorithm: the algorithm to train; every parameter with `requires_grad` is trained.
        data: a data set with the splits `train`, `validation` (or None) and `test`. It may be the kit's or your own
            (`datasets.splits.contract`).
        ways, shots, queries: classes per episode; support and query examples per class.
        iterations: meta-updates in all. 0 runs the algorithm's `begin` and trains nothing, for a head on a frozen
            network say. A resumed run may ask for more than before, if its schedule is constant or it had 0.
        meta_batch: episodes per meta-update.
        meta_lr: Adam's learning rate at the start.
        schedule: how the learning rate changes: `"constant"`; `"cosine"`, down to 0 after the last iteration; or
            `"warmup_cosine"`, which first rises over a tenth of the run.
        augmentation: how training images are changed at random: `"strokes"` for line drawings, `"photos"`, or `"none"`
            (`augmentation.py`). Validation and test images are never changed.
        init: a run folder or file whose weights training starts from (`initial.start_from`).
        seed: decides the episodes, dropout, and the fixed list of validation episodes.
        run: the run folder; None writes nothing.
        resume: continue the run in that folder, whose settings must be the same.
        accept_edited: take its config.yaml and metrics.jsonl as they are, even if somebody edited them.
        validate_every: iterations from one validation to the next. A checkpoint follows each validation. The last
            iteration has both too.
        validation_episodes, validation_queries: episodes per validation, and their query examples per class.
        validation_ways: classes of a validation episode; by default `ways`. A metric algorithm, say, may be trained
            with more ways than it is tested with.
        test_options: options of the algorithm that change for validation, and for good after training, such as
            `{"steps": 20, "lr": 0.1}`. More inner steps at a lower rate often do better than those of training.
        on_nan: what to do about an iteration whose loss or gradient is not finite. `"stop"` raises, and names the
            episode and the parameter. `"skip"` leaves the update out, Adam's state and the buffers included, counts it
            (`skipped` in the history) and goes on. A resumed run may change it.
        engine: how a meta-batch is run (`engines.choose`). `"auto"` measures once, and a resumed run keeps the choice.
            Engines give the same gradients up to rounding, so name one to get the same bits in two runs.
        chunk, workers: episodes that run at a time, for `"factored"` and each worker of `"vmap"`; threads.
        compile, unfold: compile the meta-gradient of `"factored"` or `"vmap"`; `"vmap"` runs convolutions as products.
        exact: run one episode at a time by the engine `"loop"`, on one thread, and add the gradients in the order of
            the episodes. The bits are then the same for any number of processes.
        device: the device to train on, to which the algorithm moves; by default the algorithm's own.
        progress, hooks: show a progress bar if stderr is a terminal; further hooks that watch the run.

    Raises:
        InputError: settings, data, model, device or run folder cannot be used; another process trains in the folder;
            its files were edited; a loss or gradient is not finite (the last checkpoint stays); the disk is full (the
            last good checkpoint stays).
        KeyboardInterrupt: a signal stopped the run.
    """
    settings = TrainingSettings(
        ways=ways, shots=shots, queries=queries, iterations=iterations, meta_batch=meta_batch, meta_lr=meta_lr,
        schedule=schedule, seed=seed, validate_every=validate_every, validation_episodes=validation_episodes,
        validation_queries=validation_queries, validation_ways=validation_ways, engine=engine, chunk=chunk,
        workers=workers, compile=compile, unfold=unfold, exact=exact, augmentation=augmentation, init=init,
        test_options=dict(test_options or {}), on_nan=on_nan,
    )  # fmt: skip
    return train_by(
        settings, algorithm, data, run=run, resume=resume, accept_edited=accept_edited, device=device,
        progress=progress, hooks=hooks,
    )  # fmt: skip


def train_by(
    settings: TrainingSettings,
    algorithm: Algorithm,
    data: DataSet,
    *,
    run: str | Path | None = None,
    resume: bool = False,
    accept_edited: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
    hooks: Sequence[Hooks] = (),
) -> TrainingResult:
    """Trains like `meta_train`, with the settings as one object."""
    training, recorder = prepare(algorithm, data, settings, run, resume, device, accept_edited)
    leads = training.processes.leads
    watching: list[Hooks] = [ProgressBar()] if progress and settings.iterations and leads else []
    watching += [recorder] if recorder is not None else []
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if recorder is not None:
            stack.callback(recorder.on_exit, training)  # also where a hook before it cannot start
        _loop(training, [*watching, *hooks], run, recorder)
    training.processes.agreed(lambda: None)  # all wait until the run folder is complete: another run may start from it
    with_options(algorithm, **settings.test_options)
    return TrainingResult(
        iterations=training.iteration,
        weights=training.weights,
        best=training.best,
        history=training.history,
        run=Path(run) if run is not None else None,
        engine=training.choice.engine,
        seconds=time.perf_counter() - started,
        skipped=training.skipped,
    )


def _loop(training: Training, hooks: list[Hooks], run: str | Path | None, recorder: Recorder | None) -> None:
    algorithm, validation = training.algorithm, training.data.validation
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_modes(algorithm))
        stack.callback(training.optimizer.zero_grad)
        if run is not None:
            training.stops = stack.enter_context(stop_requests(say=training.processes.leads))
        if training.settings.exact:
            stack.enter_context(one_thread())
        algorithm.train()
        for hook in hooks:
            stack.callback(hook.on_exit, training)
            hook.on_start(training)
        batches = stack.enter_context(contextlib.closing(meta_batches(training)))
        while training.iteration < training.iterations:
            meta_update(training, next(batches))
            if training.due and validation is not None:
                _validate(training, validation, hooks)
            for hook in hooks:
                hook.on_iteration(training)
            if training.stopping or (training.stops and training.processes.size == 1):
                read_figures(training)
                if recorder is not None:
                    recorder.checkpoint(training)
                raise KeyboardInterrupt(
                    f"Stopped after iteration {training.iteration} of {training.iterations}; "
                    f"go on with {run} by --resume."
                )
        if training.best_state is not None:
            algorithm.load_state_dict(training.best_state)
        for hook in hooks:
            hook.on_end(training)


def _validate(training: Training, split: TaskSplit, hooks: list[Hooks]) -> None:
    settings = training.settings
    tested = with_options(copy.copy(training.algorithm), **settings.test_options)
    found = evaluate(
        tested,
        split,
        ways=settings.tested_ways,
        shots=settings.shots,
        queries=settings.validation_queries,
        episodes=settings.validation_episodes,
        seed=settings.seed,
        engine=training.choice.for_evaluation(tested),
        processes=training.processes,
    )
    figures = {found.measure: found.mean, "interval": found.interval, "loss": found.loss}
    said = figures | ({"not_finite": found.not_finite} if found.not_finite else {})
    training.history[-1] |= {f"validation_{name}": value for name, value in said.items()}
    training.history[-1] |= training.algorithm.figures()
    if training.best is None or found.better_than(training.best[found.measure]):
        training.best = {"iteration": training.iteration, "measure": found.measure, **figures}
        state = training.algorithm.state_dict()
        training.best_state = {key: v.clone() if isinstance(v, torch.Tensor) else v for key, v in state.items()}
    for hook in hooks:
        hook.on_validation(training, found)
