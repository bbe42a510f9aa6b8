"""`fewshot-kit adapt`: a run, a network with weights or a saved learner classifies image files."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from .. import datasets, models
from ..adaptation.adapting import Learner
from ..adaptation.adapting import adapt as adapt_to_task
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..errors import InputError, closest
from ..modules.layers import batch_norms
from ..options import check_options
from ..runs.checkpoints import load, read_config, read_run
from ..runs.likeness import MOST, Statistics, shorter_sides, unlike
from ..runs.recorded import from_recorded
from ..seeds import default_draws
from .flags import SHEET, given
from .predictions import Prediction, collect, table, to_json, write_csv
from .sheet import contact_sheet


def adapt(arguments: argparse.Namespace) -> int:
    """Classifies image files after adapting to a folder of labelled ones, and prints the expected accuracy."""
    source = str(arguments.source)
    if Path(source).is_file():
        _unused(arguments, "a learner that is adapted already", "algorithm", "algorithm_options", "model_options")
        learner, support, queries = Learner.load(source), None, arguments.images
        if learner.transform is None:
            raise InputError(
                f"{source} does not say how it takes image files; ask it in Python: Learner.load(FILE).predict(x)."
            )
    else:
        support, *queries = arguments.images
        if not queries:
            raise InputError(f"There is nothing to classify: name images or folders of images after {support}.")
        learner = _of_run(arguments) if Path(source).is_dir() else _of_network(arguments)
    paths = [path for query in queries for path in datasets.images_at(query)]
    if support is not None and Path(source).is_dir():
        _warn_of_unlike(source, {"support images": datasets.find_images(support)[1], "images to classify": paths})
    found = collect(paths, learner.classes or [], learner.predict_proba(paths))
    _say(arguments, learner, found, support)
    return 0


def _of_run(arguments: argparse.Namespace) -> Learner:
    """Returns a run's algorithm, adapted to the support images."""
    _unused(arguments, "a run", "algorithm", "model_options")
    recorded = (read_run(arguments.source, arguments.accept_edited).get("data") or {}).get("transform")
    if recorded is None:
        raise InputError(
            f"{arguments.source} was not trained on image files, so it records no transform for yours; "
            "adapt it in Python: adapt(RUN, (x, y))."
        )
    algorithm = load(arguments.source, accept_edited=arguments.accept_edited)
    policy = arguments.batch_norm or ("support" if depends_on_the_batch(algorithm) else None)
    options = ({"batch_norm": policy} if policy else {}) | given(arguments).get("algorithm_options", {})
    check_options(type(algorithm), options, type(algorithm).__name__)
    with_options(algorithm, **options)
    return adapt_to_task(
        algorithm,
        arguments.images[0],
        transform=from_recorded(datasets.Transform, recorded, Path(arguments.source) / "config.yaml"),
    )


def _warn_of_unlike(run: str, images: dict[str, list[Path]]) -> None:
    """Prints a line on stderr if some images are unlike the run's training images."""
    data = read_config(run)["data"]
    if not data.get("statistics"):
        return
    for what, paths in images.items():
        some = paths[:: -(-len(paths) // MOST)]
        x = datasets.load_images(some, from_recorded(datasets.Transform, data["transform"], Path(run) / "config.yaml"))
        why = unlike(x, from_recorded(Statistics, data["statistics"], Path(run) / "config.yaml"), shorter_sides(some))
        if why:
            print(f"fewshot-kit: The {what} are nothing like what the run was trained on: {why}.", file=sys.stderr)
            return


def _of_network(arguments: argparse.Namespace) -> Learner:
    """Returns a network with weights, by name, adapted to the support images."""
    name, options = models.full_name(arguments.source), given(arguments).get("model_options", {})
    if not models.knows(name):
        raise InputError(
            f"There is no run folder, learner or network '{arguments.source}'.{closest(name, models.names())} Networks "
            "are listed by: fewshot-kit list models 'timm/*'."
        )
    check_options(models.get(name), options, f"'{name}'")
    if models.images_for(name, **options) is None:
        raise InputError(
            f"The network '{name}' has no weights here, so it knows nothing; give them, as --model-options "
            "weights=FILE or pretrained=true, or train it first: fewshot-kit train."
        )
    with default_draws(0, "initial weights"):  # for a head that is replaced
        model = models.create(name, **options)
    policy = {"batch_norm": arguments.batch_norm} if arguments.batch_norm else {}
    more = policy | given(arguments).get("algorithm_options", {})
    return adapt_to_task(model, arguments.images[0], given(arguments).get("algorithm", "auto"), **more)


def depends_on_the_batch(algorithm: Algorithm) -> bool:
    """Returns whether batch norm normalises query images together although the network has stored statistics."""
    stored = [layer.running_mean is not None for layer in batch_norms(algorithm.model).values()]
    return bool(stored) and all(stored) and algorithm.batch_norm == "transductive"


def _unused(arguments: argparse.Namespace, what: str, *names: str) -> None:
    for name in names:
        if name in given(arguments):
            raise InputError(f"--{name.replace('_', '-')} has nothing to say of {what}; leave it out.")


def _say(arguments: argparse.Namespace, learner: Learner, predictions: list[Prediction], support: str | None) -> None:
    """Writes the files that were asked for, and prints the predictions."""
    written: dict[str, Any] = {}
    if arguments.save:
        learner.save(arguments.save)
        written["learner"] = arguments.save
    if arguments.csv:
        write_csv(arguments.csv, predictions)
        written["csv"] = arguments.csv
    if arguments.sheet or not (arguments.json or arguments.no_sheet):
        labelled = datasets.find_images(support) if support is not None else None
        written["sheet"] = [str(page) for page in contact_sheet(arguments.sheet or SHEET, predictions, labelled)]
    expected = learner.expected
    if arguments.json:
        told = {"why": learner.why, "expected": dataclasses.asdict(expected) if expected else None, "written": written}
        print(json.dumps(to_json(predictions) | told))
        return
    print(table(predictions))
    print(f"Taken: {learner.why}")
    if expected is not None:
        print(f"Accuracy to expect: {expected}")
    if learner.algorithm.transductive:
        print("Transductive: each answer rests on the other images that were asked with it.")
    for what, where in written.items():
        print(f"{what.capitalize()}: {', '.join(where) if isinstance(where, list) else where}")
    sys.stdout.flush()
