"""Meta-training: the outer loop."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from .. import engines
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..algorithms.bases.task_check import check_task
from ..errors import InputError
from ..evaluation import evaluate
from ..modules.modes import kept_modes
from ..modules.place import find_device
from ..ranges import check_counts, check_rate
from ..runs.checkpoints import state_path
from ..runs.config import describe, read_config
from .augmentation import check_augmentation
from .hooks import Hooks, ProgressBar
from .initial import start_from
from .meta_update import draw_meta_batch, meta_batches, meta_update, read_figures
from .recorder import Recorder
from .schedules import check_schedule
from .signals import stop_requests
from .state import Training, TrainingResult


def meta_train(
    algorithm: Algorithm,
    data: Any,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    iterations: int = 2000,
    meta_batch: int = 16,
    meta_lr: float = 1e-3,
    schedule: str = "constant",
    augmentation: str = "none",
    init: str | Path | None = None,
    seed: int = 0,
    run: str | Path | None = None,
    resume: bool = False,
    validate_every: int = 200,
    validation_episodes: int = 200,
    validation_queries: int = 15,
    validation_ways: int | None = None,
    test_options: dict[str, Any] | None = None,
    engine: str = "auto",
    chunk: int | None = None,
    workers: int | None = None,
    compile: bool = False,
    unfold: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
    hooks: Sequence[Hooks] = (),
) -> TrainingResult:
    """Meta-train an algorithm, in place, by Adam on the mean loss of a meta-batch.

    It learns from what its `draw` gives: episodes, or labelled batches where it learns classes as classes.

    Iteration i draws its episodes and dropout masks from `seed` and i alone, so a run that was stopped and resumed
    gives bit for bit what an uninterrupted one gives on the same machine. Afterwards the algorithm holds the weights
    of its best validation, or the last ones where the data set has no validation split.

    With a run folder, Ctrl-C or SIGTERM finishes the iteration at hand, writes a checkpoint and raises
    `KeyboardInterrupt`; a second Ctrl-C stops at once.

    Args:
        algorithm: what is trained; every parameter with `requires_grad` is.
        data: a data set with the splits `train`, `validation` (or None) and `test`.
        ways, shots, queries: classes per episode; support and query examples per class.
        iterations: meta-updates in all; on resuming it may be more than before, if the schedule is constant or there
            was none. 0 keeps the algorithm as it is made, a frozen network with a head say, after its `begin`.
        meta_batch: episodes per meta-update.
        meta_lr: Adam's rate, at the start.
        schedule: how the rate goes on: `"constant"`; `"cosine"` down to 0 after the last iteration; or
            `"warmup_cosine"`, which rises over the first tenth of the run.
        augmentation: how training images are changed at random: `"strokes"` for line drawings, `"photos"`, or `"none"`
            (`augmentation.py`). Validation and test see them as they are.
        init: start from the weights of this run folder or file (`initial.start_from`).
        seed: decides the episodes and dropout, and the fixed list of validation episodes.
        run: the run folder; None writes nothing.
        resume: go on with the run in that folder; its settings have to be the same.
        validate_every: iterations between validations, each followed by a checkpoint; the last one has both too.
        validation_episodes, validation_queries: episodes per validation, and their query examples per class.
        validation_ways: their classes, where a metric algorithm is trained with more ways than are asked for later.
        test_options: options of the algorithm that are replaced in validation and for good after training, such as
            `{"steps": 20, "lr": 0.1}`: more inner steps at a lower rate often do better than those it was trained with.
        engine: how a meta-batch is run (`engines.choose`); `"auto"` is measured once and kept on resuming. Engines
            give the same gradients up to rounding: for the same bits in two runs, name one.
        chunk, workers: episodes at a time of each worker, for `"vmap"`; threads, for `"vmap"` and `"loop"`.
        compile, unfold: compile the meta-gradient of `"vmap"`; run its convolutions as products of matrices.
        device: where to train; the algorithm is moved there. By default where it is.
        progress, hooks: show a bar, where stderr is a terminal; what else watches the run.

    Raises:
        InputError: settings, data, model, device or run folder that cannot be used; a loss or gradient that is not
            finite (the last checkpoint stays); a full disk (the last good checkpoint stays).
        KeyboardInterrupt: stopped by a signal.
    """
    check_counts(ways=ways, shots=shots, queries=queries, meta_batch=meta_batch)
    check_counts(0, iterations=iterations)
    check_counts(validate_every=validate_every, validation_episodes=validation_episodes)
    check_counts(validation_queries=validation_queries, validation_ways=validation_ways or ways)
    check_rate(meta_lr=meta_lr)
    check_schedule(schedule)
    check_augmentation(augmentation)
    with_options(copy.copy(algorithm), **test_options or {})  # said before any work
    task = {"ways": ways, "shots": shots, "queries": queries}
    data.train.check(**task)
    if data.validation is not None and iterations:
        data.validation.check(validation_ways or ways, shots, validation_queries)
    if device is not None:
        algorithm.to(find_device(device))
    drawn: dict[str, Any] = task | {"meta_batch": meta_batch, "seed": seed, "augmentation": augmentation}
    batch = draw_meta_batch(algorithm, data.train, drawn, 1)
    check_task(algorithm, batch.query_x[0], batch.query_y[0], ways)
    parameters = [parameter for parameter in algorithm.parameters() if parameter.requires_grad]
    if not parameters and iterations:
        raise InputError(
            f"{type(algorithm.model).__name__} has nothing to train: no parameter has requires_grad=True; ask for 0 "
            "iterations to keep it as it is."
        )

    if resume and run is None:
        raise InputError("resume needs the run folder to go on with; name it with run=.")
    running: dict[str, Any] = {"engine": engine, "chunk": chunk, "workers": workers}
    running |= {"compile": compile, "unfold": unfold}
    if resume:
        recorded = read_config(run or "").get("training", {})
        if engine in ("auto", recorded.get("engine")):  # what was not said anew is as it was
            unsaid = {name: value for name, value in running.items() if value in ("auto", None, False)}
            running |= {name: recorded.get(name, value) for name, value in unsaid.items()}
    with kept_modes(algorithm):
        if not resume or not state_path(run or "").exists():  # new, or killed before its first checkpoint
            if init is not None:
                start_from(algorithm, init)
            algorithm.eval().begin(data.train, iterations)
        algorithm.train()
        unmeasured = running["engine"] == "auto" and not iterations
        choice = engines.usual(algorithm, batch) if unmeasured else engines.choose(algorithm, batch, **running)
    settings: dict[str, Any] = task | {
        "iterations": iterations,
        "meta_batch": meta_batch,
        "meta_lr": float(meta_lr),
        "schedule": schedule,
        "seed": seed,
        "validate_every": validate_every,
        "validation_episodes": validation_episodes,
        "validation_queries": validation_queries,
        **choice.settings(),
    }
    unusual: dict[str, tuple[Any, Any]] = {"augmentation": (augmentation, "none"), "init": (init and str(init), None)}
    unusual |= {"validation_ways": (validation_ways or ways, ways), "test_options": (test_options or {}, {})}
    settings |= {name: value for name, (value, usual) in unusual.items() if value != usual}  # older runs have none
    optimizer = torch.optim.Adam([{"params": parameters}], lr=meta_lr, fused=True)  # a group may be empty
    training = Training(algorithm, data, optimizer, settings, choice)
    watching: list[Hooks] = [ProgressBar()] if progress and iterations else []
    recorder = None
    if run is not None:
        recorder = Recorder(run, describe(algorithm, data, settings))
        (recorder.resume if resume else recorder.begin)(training)
        if resume and recorded.get("iterations") == 0 and iterations:  # what was to stay as it is is trained after all
            algorithm.begin(data.train, iterations)
        watching.append(recorder)

    started = time.perf_counter()
    _loop(training, [*watching, *hooks], recorder)
    with_options(algorithm, **test_options or {})
    return TrainingResult(
        iterations=training.iteration,
        weights=training.weights,
        best=training.best,
        history=training.history,
        run=Path(run) if run is not None else None,
        engine=choice.engine,
        seconds=time.perf_counter() - started,
    )


def _loop(training: Training, hooks: list[Hooks], recorder: Recorder | None) -> None:
    algorithm = training.algorithm
    with contextlib.ExitStack() as stack:
        stack.enter_context(kept_modes(algorithm))
        stack.callback(training.optimizer.zero_grad)
        stops = stack.enter_context(stop_requests()) if recorder is not None else []
        algorithm.train()
        for hook in hooks:
            stack.callback(hook.on_exit, training)
            hook.on_start(training)
        batches = stack.enter_context(contextlib.closing(meta_batches(training)))
        while training.iteration < training.iterations:
            meta_update(training, next(batches))
            if training.due and training.data.validation is not None:
                _validate(training, hooks)
            for hook in hooks:
                hook.on_iteration(training)
            if stops and recorder is not None:
                read_figures(training)
                recorder.checkpoint(training)
                raise KeyboardInterrupt(
                    f"Stopped after iteration {training.iteration} of {training.iterations}; "
                    f"go on with {recorder.run} by --resume."
                )
        if training.best_state is not None:
            algorithm.load_state_dict(training.best_state)
        for hook in hooks:
            hook.on_end(training)


def _validate(training: Training, hooks: list[Hooks]) -> None:
    settings = training.settings
    tested = with_options(copy.copy(training.algorithm), **settings.get("test_options", {}))
    found = evaluate(
        tested,
        training.data.validation,
        ways=settings.get("validation_ways", settings["ways"]),
        shots=settings["shots"],
        queries=settings["validation_queries"],
        episodes=settings["validation_episodes"],
        seed=settings["seed"],
        engine=training.choice.for_evaluation(tested),
    )
    figures = {found.measure: found.mean, "interval": found.interval, "loss": found.loss}
    training.history[-1] |= {f"validation_{name}": value for name, value in figures.items()}
    training.history[-1] |= training.algorithm.figures()
    if training.best is None or found.better_than(training.best[found.measure]):
        training.best = {"iteration": training.iteration, "measure": found.measure, **figures}
        state = training.algorithm.state_dict()
        training.best_state = {key: v.clone() if isinstance(v, torch.Tensor) else v for key, v in state.items()}
    for hook in hooks:
        hook.on_validation(training, found)
