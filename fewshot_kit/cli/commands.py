"""The functions of the command line's commands. Each takes the parsed flags and returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from .. import algorithms, datasets, models
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..datasets.splits.contract import TaskSplit
from ..engines import Processes
from ..errors import InputError
from ..evaluation import Evaluation
from ..evaluation import evaluate as evaluate_on
from ..experiments import running as experiment
from ..experiments.running import create, made_to_fit
from ..experiments.settings import from_file, from_recipe, from_run, merged, to_go_on
from ..experiments.train_config import TrainConfig
from ..options import check_options
from ..runs.checkpoints import load, read_config, record_results
from ..runs.recorded import from_recorded
from ..training.hooks import Hooks
from ..training.profiling import Profiler
from ..training.recorder import TestPlan
from .adapt_command import depends_on_the_batch
from .flags import given
from .group import process_group
from .launch import restarts


def train(arguments: argparse.Namespace) -> int:
    """Meta-trains, tests on unseen classes, and prints where the files are. Several processes share the work."""
    with process_group() as processes:
        return _train(arguments, processes)


def _train(arguments: argparse.Namespace, processes: Processes) -> int:
    asked = merged(from_file(arguments.config) if arguments.config else {}, given(arguments))
    config = TrainConfig(**from_recipe(asked))
    folder = config.folder()
    again = processes.agreed(lambda: arguments.resume or (restarts() > 0 and experiment.begun(folder)))
    if again:
        config = TrainConfig(**to_go_on(folder, asked, arguments.accept_edited))
    watching: list[Hooks] = [TestPlan(folder, config.test_episodes)] + [Profiler(folder)] * arguments.profile
    data, algorithm, training = experiment.train(
        config,
        resume=again,
        progress=not arguments.json,
        hooks=watching if processes.leads else [],
        accept_edited=arguments.accept_edited,
    )
    tested = _both_policies(algorithm, data.test, config, processes, progress=not arguments.json)
    if not processes.leads:
        return 0
    took = {"iterations": training.iterations, "seconds": round(training.seconds, 1), "resumed": again}
    took |= {"skipped": training.skipped} if training.skipped else {}
    record_results(folder, {"test": [one.to_dict() for one in tested], **took})
    curve = folder / "curve.png" if training.iterations else None
    if arguments.json:
        found = {"run": str(folder), "curve": curve and str(curve), "test": [_brief(one) for one in tested]}
        print(json.dumps(found | took))
        return 0
    print(f"Unseen classes of {data.name}:")
    for one in tested:
        print(f"  {one}")
    print(f"Run folder: {folder}\n{f'Learning curve: {curve}' if curve else 'Nothing was trained: 0 iterations.'}")
    if training.skipped:
        print(
            f"Skipped: {training.skipped} of {training.iterations} meta-updates, whose loss or gradient was not finite."
        )
    if arguments.profile:
        print(f"{(folder / 'operators.txt').read_text()}Trace: {folder / 'trace.json'}")
    return 0


def _both_policies(
    algorithm: Algorithm, split: TaskSplit, config: TrainConfig, processes: Processes, progress: bool
) -> list[Evaluation]:
    """Evaluates with the run's own batch-norm policy, and with the inductive one if that makes a difference."""
    policies = [None, "support"] if depends_on_the_batch(algorithm) else [None]
    return [
        evaluate_on(
            algorithm,
            split,
            ways=config.test_ways or config.ways,
            shots=config.shots,
            queries=config.test_queries,
            episodes=config.test_episodes,
            seed=config.seed,
            batch_norm=policy,
            device=config.device,
            progress=progress,
            processes=processes,
        )
        for policy in policies
    ]


def _brief(tested: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in tested.to_dict().items() if name != "per_episode"}


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluates a run on a split of its own data set, or of another one. Several processes share the tasks."""
    with process_group() as processes:
        return _evaluate(arguments, processes)


def _evaluate(arguments: argparse.Namespace, processes: Processes) -> int:
    wanted = given(arguments)
    algorithm = load(arguments.folder, accept_edited=arguments.accept_edited)
    _replace_options(algorithm, wanted.pop("algorithm_options", {}))
    kinds: tuple[str, ...] = () if "dataset" in wanted else ("dataset",)
    known = from_run(arguments.folder, kinds, arguments.accept_edited)
    config = TrainConfig(**merged(known, wanted))
    recorded = (read_config(arguments.folder).get("data") or {}).get("transform")
    shown = recorded and models.images_of(algorithm.model)
    file = Path(arguments.folder) / "config.yaml"
    images = from_recorded(datasets.Transform, recorded, file) if shown else None
    data = create(datasets, config.dataset, made_to_fit(config, images))
    if "dataset" not in wanted:  # the run's own, in which other classes may be to be tested on by now
        data = experiment.as_trained(data, arguments.folder)
    split = getattr(data, arguments.split)
    if split is None:
        raise InputError(f"{data.name} has no {arguments.split} split; take --split test.")
    if "dataset" in wanted and arguments.split != "train":
        experiment.warn_of_known(split, arguments.folder, config)
    tested = evaluate_on(
        algorithm,
        split,
        ways=wanted.get("ways", config.test_ways or config.ways),
        shots=config.shots,
        queries=wanted.get("queries", config.test_queries),
        seed=config.seed,
        device=config.device,
        processes=processes,
        episodes=arguments.episodes,
        batch_norm=arguments.batch_norm,
        progress=not arguments.json,
        dirichlet=arguments.dirichlet,
    )
    if processes.leads:
        print(json.dumps(_brief(tested)) if arguments.json else tested)
    return 0


def _replace_options(algorithm: Algorithm, options: dict[str, Any]) -> None:
    check_options(type(algorithm), options, type(algorithm).__name__)
    with_options(algorithm, **options)


def list_suited(arguments: argparse.Namespace) -> int:
    """Prints the algorithms that did best on data like those of `list --for`."""
    if arguments.kind not in (None, "algorithms"):
        raise InputError(
            f"--for suggests algorithms, not {arguments.kind}; write fewshot-kit list algorithms --for ..."
        )
    settings = {"dataset": arguments.suited_to}
    if Path(arguments.suited_to).is_dir():
        settings = from_run(arguments.suited_to, kinds=("dataset",), accept_edited=True)  # it is only looked up
    config = TrainConfig(**merged(settings, given(arguments)))
    train = create(datasets, config.dataset, config.dataset_options).train
    if not isinstance(train, datasets.Split):
        able = [name for name in algorithms.names() if getattr(algorithms.get(name), "regression", False)]
        raise InputError(
            f"The table of measurements is about classes, and {config.dataset} has none; "
            f"the algorithms that do regression are {', '.join(able)}."
        )
    has = {"classes": len(train.classes), "images_per_class": int(train.y.bincount().min())}
    found = algorithms.suggest(**has, ways=config.ways, shots=config.shots)
    if arguments.json:
        print(json.dumps(has | dataclasses.asdict(found)))
        return 0
    print(
        f"{config.dataset} has {has['classes']} classes to meta-train on, of {has['images_per_class']} images or more. "
        f"The nearest that was measured, best first (* as good as the best, within the intervals):"
    )
    for row in found.rows:
        print(f"  {'*' if row in found.alike else ' '} {row}")
    return 0


def doctor(arguments: argparse.Namespace) -> int:
    """Prints what the kit finds on this machine. The exit status is 1 if something does not work."""
    from .doctor import diagnose, render

    checks = diagnose()
    print(json.dumps([dataclasses.asdict(check) for check in checks]) if arguments.json else render(checks))
    return 0 if all(check.ok for check in checks) else 1


def cache(arguments: argparse.Namespace) -> int:
    """Prints the cache's place and size. With `--clear` it removes the kit's own files and prints what was freed."""
    from .doctor import size_in_words

    folder, files = datasets.find_cache(), datasets.cached_files()
    if arguments.clear:
        for path in files:
            path.unlink(missing_ok=True)
    if arguments.json:
        found = {"folder": str(folder), "files": len(files), "megabytes": round(sum(files.values()) / 1e6, 1)}
        print(json.dumps(found | {"cleared": arguments.clear}))
    else:
        size = size_in_words(files.values())
        print(f"Freed {size} in {folder}" if arguments.clear else f"{folder} holds {size}")
    return 0
