"""Regenerates the accuracy table: `python benchmarks/accuracy.py` (or `make bench`).

Every cell is a recipe. Its run is kept under a hash of the recipe, so a cell that was stopped goes on where it was,
and one that is done is not run again. The results are written as JSON, one file a cell, and as one Markdown table.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fewshot_kit import algorithms, datasets, evaluate, load, meta_train, models
from fewshot_kit.errors import KitError
from fewshot_kit.storage import write_bytes

HERE = Path(__file__).parent


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
    iterations: int = 400
    meta_batch: int = 4
    meta_lr: float = 0.002
    schedule: str = "cosine"
    seed: int = 0
    test_queries: int = 15
    test_episodes: int = 600

    def key(self) -> str:
        """A hash of the recipe."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:12]


# The inner rates differ by orders of magnitude: neither network has batch norm, and without identity connections
# little of the gradient reaches the body, which alone adapts in BOIL.
CELLS = {
    "CNN_MAML": Recipe("cnn", "maml", {"lr": 0.5, "steps": 1}),
    "CNN_BOIL": Recipe("cnn", "boil", {"lr": 3.0, "steps": 1}, meta_lr=0.001),
    "ResNet_MAML": Recipe("resnet", "maml", {"lr": 0.05, "steps": 1}),
    "ResNet_BOIL": Recipe("resnet", "boil", {"lr": 0.1, "steps": 1}, meta_lr=0.001),
}


def run(recipe: Recipe, folder: Path, root: str | None) -> dict[str, Any]:
    """Train (or go on training) and evaluate one cell; what is worth keeping of it."""
    data = datasets.create(recipe.dataset, **recipe.dataset_options, **({"root": root} if root else {}))
    task = {"ways": recipe.ways, "shots": recipe.shots}
    model = models.create(
        recipe.model, ways=recipe.ways, channels=data.train.channels, image_size=data.train.image_size, seed=recipe.seed
    )
    algorithm = algorithms.create(recipe.algorithm, model=model, **recipe.algorithm_options)
    resumed = folder.exists()
    training = meta_train(
        algorithm,
        data,
        **task,
        queries=recipe.queries,
        iterations=recipe.iterations,
        meta_batch=recipe.meta_batch,
        meta_lr=recipe.meta_lr,
        schedule=recipe.schedule,
        validate_every=25,
        validation_queries=recipe.test_queries,
        seed=recipe.seed,
        engine="loop",  # not the fastest one found: the same bits whenever the table is made
        run=folder,
        resume=resumed,
    )
    started = time.perf_counter()
    tested = evaluate(
        load(folder), data.test, **task, queries=recipe.test_queries, episodes=recipe.test_episodes, progress=True
    )
    return {
        "recipe": dataclasses.asdict(recipe),
        "key": recipe.key(),
        "result": tested.to_dict(),
        "weights": training.weights,
        "engine": training.engine,
        "training_seconds": None if resumed else round(training.seconds, 1),
        "test_seconds": round(time.perf_counter() - started, 1),
        "test_classes": data.test.classes,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} CPU threads",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def table(done: dict[str, dict[str, Any]]) -> str:
    """The cells as a Markdown page."""
    first, classes = next((cell["recipe"], cell["test_classes"]) for cell in done.values())
    lines = [
        f"# Accuracy on `{first['dataset']}`, {first['ways']}-way {first['shots']}-shot",
        "",
        "Written by `python benchmarks/accuracy.py`; every figure is read from the JSON file of its cell, beside this.",
        f"Mean accuracy over {first['test_episodes']} episodes of {len(classes)} unseen characters, "
        "and the half width of its 95% interval.",
        "",
        f"| | {' | '.join(done)} |",
        f"|---|{'---|' * len(done)}",
    ]
    rows: dict[str, list[str]] = {"accuracy, %": [], "budget": [], "inner loop": [], "training time": [], "machine": []}
    for cell in done.values():
        recipe, result = cell["recipe"], cell["result"]
        rows["accuracy, %"].append(f"**{100 * result['accuracy']:.2f} ± {100 * result['interval']:.2f}**")
        rows["budget"].append(f"{recipe['iterations']} x {recipe['meta_batch']} tasks")
        rows["inner loop"].append(", ".join(f"{name} {value}" for name, value in recipe["algorithm_options"].items()))
        seconds = cell["training_seconds"]
        rows["training time"].append("interrupted" if seconds is None else f"{seconds / 60:.1f} min")
        rows["machine"].append(cell["machine"])
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()), ""])


def main(argv: list[str] | None = None) -> int:
    """Regenerate the table, or some of its cells."""
    parser = argparse.ArgumentParser(description="Regenerates the accuracy table.")
    parser.add_argument("cells", nargs="*", metavar="CELL", help=f"some of {', '.join(CELLS)}; default: all")
    parser.add_argument("--root", help="folder of the data sets (default: as everywhere in the kit)")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/benchmarks"), help="where runs go (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results" / "accuracy", help="where results go")
    arguments = parser.parse_args(argv)
    unknown = [name for name in arguments.cells if name not in CELLS]
    if unknown:
        parser.error(f"unknown cell {unknown[0]}; the cells are {', '.join(CELLS)}")
    done = {}
    try:
        for name, recipe in CELLS.items():
            path = arguments.results / f"{name}.json"
            known = json.loads(path.read_text()) if path.exists() else {}
            if known.get("key") != recipe.key():
                if arguments.cells and name not in arguments.cells:
                    continue
                print(f"{name}: {recipe}")
                known = run(recipe, arguments.runs / f"{name}-{recipe.key()}", arguments.root)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(path, json.dumps(known).encode())
            done[name] = known
    except KitError as error:
        print(f"accuracy.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"accuracy.py: {stopped or 'interrupted'} The same command goes on.", file=sys.stderr)
        return 130
    page = table(done)
    write_bytes(arguments.results / "README.md", page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
