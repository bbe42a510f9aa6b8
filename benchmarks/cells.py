"""A cell of the table of every algorithm: a recipe, run once and kept under its hash, and gone on with if stopped."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewshot_kit import algorithms, datasets, evaluate, load, meta_train, models
from fewshot_kit.errors import KitError
from fewshot_kit.options import options_of
from fewshot_kit.runs.storage import write_bytes
from fewshot_kit.seeds import default_draws

HERE = Path(__file__).parent
Cells = dict[str, dict[str, Any]]  # by name, what `run` gave of each


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a cell's figure."""

    model: str
    algorithm: str
    algorithm_options: dict[str, Any]
    dataset: str = "futurama"
    dataset_options: dict[str, Any] = field(default_factory=lambda: {"rotations": "classes"})
    ways: int = 5
    shots: int = 5
    queries: int = 3
    iterations: int = 400  # 0: the network as it was made
    meta_batch: int = 4
    meta_lr: float = 0.002
    schedule: str = "cosine"
    seed: int = 0
    test_queries: int = 15
    test_episodes: int = 600
    validations: int = 16
    test_ways: int | None = None  # where they are not those of training

    def key(self) -> str:
        """A hash of the recipe."""
        # A setting that came later is left out where it is as it was before: cells done then are still good.
        later = {"validations": 16, "test_ways": None}
        values = {name: value for name, value in dataclasses.asdict(self).items() if later.get(name, ...) != value}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def run(recipe: Recipe, folder: Path, root: str | None) -> dict[str, Any]:
    """Train (or go on training) and evaluate one cell; what is worth keeping of it."""
    data = datasets.create(recipe.dataset, **recipe.dataset_options, **({"root": root} if root else {}))
    tested = {"shots": recipe.shots, "queries": recipe.test_queries, "ways": recipe.test_ways or recipe.ways}
    model = models.create(
        recipe.model, ways=recipe.ways, channels=data.train.channels, image_size=data.train.image_size, seed=recipe.seed
    )
    takes = options_of(algorithms.get(recipe.algorithm)).parameters
    counted = {"classes": len(data.train.classes)} if "classes" in takes else {}
    with default_draws(recipe.seed, "algorithm"):  # for modules of its own
        algorithm = algorithms.create(recipe.algorithm, model=model, **counted, **recipe.algorithm_options)
    resumed, training = folder.exists(), None
    if recipe.iterations:
        training = meta_train(
            algorithm,
            data,
            ways=recipe.ways,
            shots=recipe.shots,
            queries=recipe.queries,
            iterations=recipe.iterations,
            meta_batch=recipe.meta_batch,
            meta_lr=recipe.meta_lr,
            schedule=recipe.schedule,
            validate_every=max(1, recipe.iterations // recipe.validations),
            validation_queries=recipe.test_queries,
            validation_ways=recipe.test_ways,
            seed=recipe.seed,
            engine="loop",  # not the fastest one found: the same bits whenever the table is made
            run=folder,
            resume=resumed,
        )
        algorithm = load(folder)
    started = time.perf_counter()
    found = evaluate(algorithm, data.test, **tested, episodes=recipe.test_episodes, progress=True)
    seconds = None if resumed or training is None else round(training.seconds, 1)
    return {
        "recipe": dataclasses.asdict(recipe),
        "key": recipe.key(),
        "result": found.to_dict(),
        "weights": training.weights if training else None,
        "engine": training.engine if training else None,
        "training_seconds": seconds,
        "test_seconds": round(time.perf_counter() - started, 1),
        "train_classes": len(data.train.classes),
        "test_classes": data.test.classes,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def regenerate(
    cells: dict[str, Recipe],
    name: str,
    table: Callable[[Cells], str],
    argv: list[str] | None,
    after: Callable[[Cells], None] | None = None,
) -> int:
    """The command line of a table: run what is not there yet, keep one JSON file a cell, and write the page.

    Args:
        cells: the recipes.
        name: of the script, and of its folder under `results`.
        table: the page of the cells that are done.
        after: what else is made of them.
    """
    parser = argparse.ArgumentParser(description="Regenerates the accuracy table.")
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"some of {', '.join(cells)}; default: all")
    parser.add_argument("--root", help="folder of the data sets (default: as everywhere in the kit)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/benchmarks"), help="where runs go (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results" / name, help="where results go")
    arguments = parser.parse_args(argv)
    unknown = [cell for cell in arguments.cells if cell not in cells]
    if unknown:
        parser.error(f"unknown cell {unknown[0]}; the cells are {', '.join(cells)}")
    done: Cells = {}
    try:
        for cell, recipe in cells.items():
            path = arguments.results / f"{cell}.json"
            known = json.loads(path.read_text()) if path.exists() else {}
            if known.get("key") != recipe.key():
                if arguments.cells and cell not in arguments.cells:
                    continue
                print(f"{cell}: {recipe}")
                known = run(recipe, arguments.runs / f"{cell}-{recipe.key()}", arguments.root)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, json.dumps(known).encode())
            done[cell] = known
    except KitError as error:
        print(f"{name}.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"{name}.py: {stopped or 'interrupted'} The same command goes on.", file=sys.stderr)
        return 130
    page = table(done)
    write_bytes(arguments.results / "README.md", page.encode())
    print(page)
    if after is not None:
        after(done)
    return 0
