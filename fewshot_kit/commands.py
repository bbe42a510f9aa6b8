"""What each command of the command line does; each takes the parsed flags and returns the exit status."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

from . import algorithms, datasets, models
from .adaptation import adapt as adapt_to_task
from .adaptation import with_options
from .algorithms.modes import batch_norms
from .checkpoints import load, record_results
from .config import TrainConfig, from_file, from_run, given
from .datasets.images import SUFFIXES
from .errors import InputError
from .evaluation import Evaluation
from .evaluation import evaluate as evaluate_on
from .recipes import options_of
from .run_config import read_config
from .training import meta_train


def train(arguments: argparse.Namespace) -> int:
    """Meta-train, test on unseen classes, and say where everything lies."""
    settings = (from_file(arguments.config) if arguments.config else {}) | given(arguments)
    folder = TrainConfig(**settings).folder()
    if arguments.resume and folder.exists():
        settings = from_run(folder) | settings
    config = TrainConfig(**settings)
    data = datasets.create(config.dataset, **config.dataset_options)
    model = models.create(config.model, **_fitting(config, data.train))
    algorithm = algorithms.create(config.algorithm, model=model, **config.algorithm_options)
    data.test.check(config.ways, config.shots, config.test_queries)
    training = meta_train(
        algorithm,
        data,
        ways=config.ways,
        shots=config.shots,
        queries=config.queries,
        iterations=config.iterations,
        meta_batch=config.meta_batch,
        meta_lr=config.meta_lr,
        schedule=config.schedule,
        validate_every=config.validate_every,
        validation_queries=config.test_queries,
        seed=config.seed,
        engine=config.engine,
        device=config.device,
        run=folder,
        resume=arguments.resume,
        progress=not arguments.json,
    )
    tested = _both_policies(algorithm, data.test, config, progress=not arguments.json)
    results = {"test": [one.to_dict() for one in tested], "iterations": training.iterations}
    record_results(folder, results)
    curve = folder / "curve.png"
    if arguments.json:
        print(json.dumps({"run": str(folder), "curve": str(curve), **_brief(results)}))
        return 0
    print(f"Unseen classes of {data.name}:")
    for one in tested:
        print(f"  {one}")
    print(f"Run folder: {folder}\nLearning curve: {curve}")
    return 0


def _fitting(config: TrainConfig, split: Any) -> dict[str, Any]:
    """The network's options, with the sizes that the data set and the task ask for where it takes them."""
    takes = options_of(models.get(config.model)).parameters
    known = {"ways": config.ways, "channels": split.channels, "image_size": split.image_size, "seed": config.seed}
    return {name: value for name, value in known.items() if name in takes and value is not None} | config.model_options


def _both_policies(algorithm: Any, split: Any, config: TrainConfig, progress: bool) -> list[Evaluation]:
    """The run's own batch-norm policy first; then, where it makes a difference, the inductive one beside it."""
    policies: list[str | None] = [None]
    stored = [layer.running_mean is not None for layer in batch_norms(algorithm.model).values()]
    if stored and all(stored) and getattr(algorithm, "batch_norm", None) == "transductive":
        policies.append("support")
    return [
        evaluate_on(
            algorithm,
            split,
            ways=config.ways,
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


def _brief(results: dict[str, Any]) -> dict[str, Any]:
    tested = [{key: value for key, value in one.items() if key != "per_episode"} for one in results["test"]]
    return results | {"test": tested}


def evaluate(arguments: argparse.Namespace) -> int:
    """Evaluate a run on a split of its own data set, or of another one."""
    settings = from_run(arguments.folder)
    trained = TrainConfig(**settings)
    wanted = given(arguments)
    algorithm = with_options(load(arguments.folder), **wanted.pop("algorithm_options", {}))
    another = wanted.get("dataset", trained.dataset) != trained.dataset
    options = wanted.pop("dataset_options", {} if another else trained.dataset_options)
    data = datasets.create(wanted.pop("dataset", trained.dataset), **options)
    split = getattr(data, arguments.split)
    if split is None:
        raise InputError(f"{data.name} has no {arguments.split} split; take --split test.")
    defaults = {"ways": trained.ways, "shots": trained.shots, "queries": trained.test_queries, "seed": trained.seed}
    tested = evaluate_on(
        algorithm,
        split,
        **defaults | wanted,
        episodes=arguments.episodes,
        batch_norm=arguments.batch_norm,
        progress=not arguments.json,
    )
    print(json.dumps(_brief({"test": [tested.to_dict()]})["test"][0]) if arguments.json else tested)
    return 0


def adapt(arguments: argparse.Namespace) -> int:
    """Adapt a run to a folder of labelled images and classify other images."""
    recorded = (read_config(arguments.folder).get("data") or {}).get("transform")
    if recorded is None:
        raise InputError(
            f"{arguments.folder} was not trained on image files, so it records no transform for yours; "
            "adapt it in Python: adapt(RUN, (x, y))."
        )
    transform = datasets.Transform(**recorded)
    paths = [found for given_path in arguments.query for found in _images(Path(given_path))]
    x, labels, _ = datasets.load_image_folder(arguments.support, transform)
    query = datasets.load_images(paths, transform)
    changes = given(arguments).get("algorithm_options", {})
    if arguments.batch_norm:
        changes["batch_norm"] = arguments.batch_norm
    learner = adapt_to_task(arguments.folder, (x, labels), **changes)
    probabilities = learner.predict_proba(query)
    if arguments.save:
        learner.save(arguments.save)
    assert learner.classes is not None
    found = [
        {"image": str(path), "label": learner.classes[int(row.argmax())], "probability": round(float(row.max()), 4)}
        for path, row in zip(paths, probabilities, strict=True)
    ]
    if arguments.json:
        print(json.dumps({"classes": learner.classes, "predictions": found}))
    else:
        for one in found:
            print(f"{one['image']}: {one['label']} ({100 * float(one['probability']):.1f} %)")  # type: ignore[arg-type]
    return 0


def _images(path: Path) -> list[Path]:
    """An image, or every image in a folder."""
    if not path.is_dir():
        return [path]
    inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not inside:
        raise InputError(f"The folder {path} has no images to classify.")
    return inside


def list_names(arguments: argparse.Namespace) -> int:
    """Every registered name with one plain sentence."""
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
