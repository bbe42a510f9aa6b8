"""What each command of the command line does; each takes the parsed flags and returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from . import algorithms, datasets, models
from .adaptation import adapt as adapt_to_task
from .adaptation import with_options
from .algorithms import Algorithm
from .algorithms.layers import batch_norms
from .checkpoints import load, read_config, record_results
from .config import TrainConfig, fitting, from_file, from_run, given, merged
from .errors import InputError
from .evaluation import Evaluation
from .evaluation import evaluate as evaluate_on
from .likeness import Statistics, shorter_sides, unlike
from .profiling import Profiler
from .recipes import options_of
from .recorder import TestPlan
from .seeds import default_draws
from .training import meta_train
from .values import check_options


def train(arguments: argparse.Namespace) -> int:
    """Meta-train, test on unseen classes, and say where everything lies."""
    settings = merged(from_file(arguments.config) if arguments.config else {}, given(arguments))
    folder = TrainConfig(**settings).folder()
    if arguments.resume:
        settings = merged(from_run(folder), settings)
    config = TrainConfig(**settings)
    data = _create(datasets, config.dataset, config.dataset_options)
    takes = options_of(models.get(config.model)).parameters
    sizes = fitting(settings | {"ways": config.ways, "seed": config.seed}, data.train.example_shape)
    fitted = {name: value for name, value in sizes.items() if name in takes}
    model = _create(models, config.model, fitted | config.model_options)
    with default_draws(config.seed, "algorithm"):  # for modules of its own
        algorithm = _create(algorithms, config.algorithm, config.algorithm_options, model=model)
    data.test.check(config.test_ways or config.ways, config.shots, config.test_queries)
    training = meta_train(
        algorithm,
        data,
        **config.training(),
        run=folder,
        resume=arguments.resume,
        progress=not arguments.json,
        hooks=[TestPlan(folder, config.test_episodes)] + [Profiler(folder)] * arguments.profile,
    )
    tested = _both_policies(algorithm, data.test, config, progress=not arguments.json)
    took = {"iterations": training.iterations, "seconds": round(training.seconds, 1), "resumed": arguments.resume}
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
    if arguments.profile:
        print(f"{(folder / 'operators.txt').read_text()}Trace: {folder / 'trace.json'}")
    return 0


def _create(room: Any, name: str, options: dict[str, Any], **more: Any) -> Any:
    check_options(room.get(name), options, f"'{name}'")
    return room.create(name, **options, **more)


def _both_policies(algorithm: Any, split: Any, config: TrainConfig, progress: bool) -> list[Evaluation]:
    """The run's own batch-norm policy first; then, where it makes a difference, the inductive one beside it."""
    policies = [None, "support"] if _depends_on_the_batch(algorithm) else [None]
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
        )
        for policy in policies
    ]


def _depends_on_the_batch(algorithm: Algorithm) -> bool:
    """Whether query images are normalised together, and the network would allow for another policy."""
    stored = [layer.running_mean is not None for layer in batch_norms(algorithm.model).values()]
    return bool(stored) and all(stored) and getattr(algorithm, "batch_norm", None) == "transductive"


def _brief(tested: Evaluation) -> dict[str, Any]:
    return {name: value for name, value in tested.to_dict().items() if name != "per_episode"}


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a run on a split of its own data set, or of another one."""
    wanted = given(arguments)
    algorithm = load(arguments.folder)
    _replace_options(algorithm, wanted.pop("algorithm_options", {}))
    known = from_run(arguments.folder, kinds=() if "dataset" in wanted else ("dataset",))
    config = TrainConfig(**merged(known, wanted))
    data = _create(datasets, config.dataset, config.dataset_options)
    split = getattr(data, arguments.split)
    if split is None:
        raise InputError(f"{data.name} has no {arguments.split} split; take --split test.")
    tested = evaluate_on(
        algorithm,
        split,
        ways=wanted.get("ways", config.test_ways or config.ways),
        shots=config.shots,
        queries=wanted.get("queries", config.test_queries),
        seed=config.seed,
        device=config.device,
        episodes=arguments.episodes,
        batch_norm=arguments.batch_norm,
        progress=not arguments.json,
    )
    print(json.dumps(_brief(tested)) if arguments.json else tested)
    return 0


def _replace_options(algorithm: Algorithm, options: dict[str, Any]) -> None:
    check_options(type(algorithm), options, type(algorithm).__name__)
    with_options(algorithm, **options)


def adapt(arguments: argparse.Namespace) -> int:
    """Adapt a run to a folder of labelled images and classify other images."""
    data = read_config(arguments.folder).get("data") or {}
    recorded = data.get("transform")
    if recorded is None:
        raise InputError(
            f"{arguments.folder} was not trained on image files, so it records no transform for yours; "
            "adapt it in Python: adapt(RUN, (x, y))."
        )
    transform = datasets.Transform(**recorded)
    algorithm = load(arguments.folder)
    policy = arguments.batch_norm or ("support" if _depends_on_the_batch(algorithm) else None)
    changes = {"batch_norm": policy} if policy else {}
    _replace_options(algorithm, changes | given(arguments).get("algorithm_options", {}))
    paths = [path for query in arguments.query for path in datasets.images_at(query)]
    query = datasets.load_images(paths, transform)
    x, labels, labelled = datasets.load_image_folder(arguments.support, transform)
    learner = adapt_to_task(algorithm, (x, labels))
    probabilities = learner.predict_proba(query)
    if arguments.save:
        learner.save(arguments.save)
    if data.get("statistics"):
        _warn_of_unlike(data["statistics"], {"support images": (x, labelled), "images to classify": (query, paths)})
    found = [
        (str(path), label, round(float(row.max()), 4))
        for path, label, row in zip(paths, learner.predict(query), probabilities, strict=True)
    ]
    if arguments.json:
        predictions = [dict(zip(("image", "label", "probability"), one, strict=True)) for one in found]
        print(json.dumps({"classes": learner.classes, "predictions": predictions}))
    else:
        for path, label, probability in found:
            print(f"{path}: {label} ({100 * probability:.1f} %)")
    return 0


def _warn_of_unlike(recorded: dict[str, float], images: dict[str, tuple[Tensor, list[Path]]]) -> None:
    """One line on stderr where some of these are nothing like what the run was trained on."""
    for what, (x, paths) in images.items():
        why = unlike(x, Statistics(**recorded), shorter_sides(paths))
        if why:
            print(f"warning: the {what} are nothing like what the run was trained on: {why}.", file=sys.stderr)
            return


def list_names(arguments: argparse.Namespace) -> int:
    """Every registered name with one plain sentence; or the algorithms that did best on data like that."""
    if arguments.suited_to is not None:
        return _list_suited(arguments)
    rooms = {"models": models, "algorithms": algorithms, "datasets": datasets}
    wanted = {kind: room for kind, room in rooms.items() if arguments.kind in (None, kind)}
    found = {
        kind: {name: _sentence(room.get(name)) for name in room.names(arguments.pattern)}
        for kind, room in wanted.items()
    }
    if arguments.json:
        print(json.dumps(found))
        return 0
    for kind, named in found.items():
        print(f"{kind}:")
        width = max(map(len, named), default=0)
        for name, sentence in named.items():
            print(f"  {name:<{width}}  {sentence}")
        if not named:
            print(f"  nothing matches {arguments.pattern}")
        if kind == "models" and arguments.pattern == "*":
            print("  torchvision/NAME and timm/NAME: those libraries' own; fewshot-kit list models 'torchvision/*'")
    return 0


def _list_suited(arguments: argparse.Namespace) -> int:
    if arguments.kind not in (None, "algorithms"):
        raise InputError(
            f"--for suggests algorithms, not {arguments.kind}; write fewshot-kit list algorithms --for ..."
        )
    settings = {"dataset": arguments.suited_to}
    if Path(arguments.suited_to).is_dir():
        settings = from_run(arguments.suited_to, kinds=("dataset",))
    config = TrainConfig(**merged(settings, given(arguments)))
    train = _create(datasets, config.dataset, config.dataset_options).train
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


def _sentence(factory: Any) -> str:
    text = " ".join((inspect.getdoc(factory) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "." if text else ""


def doctor(arguments: argparse.Namespace) -> int:
    """Print what the kit finds on this machine; 1 where something does not work."""
    from .doctor import diagnose, render

    checks = diagnose()
    print(json.dumps([dataclasses.asdict(check) for check in checks]) if arguments.json else render(checks))
    return 0 if all(check.ok for check in checks) else 1


def cache(arguments: argparse.Namespace) -> int:
    """Print where the cache is and how large; with `--clear`, remove what the kit wrote, and say what was freed."""
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
