"""Regenerates the table of every algorithm: `python benchmarks/algorithms.py`.

Every algorithm has one small budget of tasks on Omniglot and a smaller one on its Futurama alphabet, and the two
baselines one of none; options are the default ones but where a few short trials said otherwise.
What comes out is also what `algorithms.suggest` and `fewshot-kit list algorithms --for` look their answers up in.
Cells are kept and gone on with; run two halves side by side with one thread each.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from cells import Cells, Recipe, regenerate

from fewshot_kit import algorithms
from fewshot_kit.runs.storage import write_bytes

MEASURED = Path(__file__).parents[1] / "fewshot_kit" / "algorithms" / "measured.json"
ACCURACY = Path(__file__).parent / "results" / "accuracy"
OMNIGLOT = Recipe(
    "conv4",
    "",
    {},
    "omniglot",
    {"rotations": "none"},
    shots=1,
    queries=5,
    iterations=300,
    meta_batch=8,
    meta_lr=0.003,
    validations=2,
)
FUTURAMA = dataclasses.replace(
    OMNIGLOT, dataset="futurama", dataset_options={"rotations": "classes"}, shots=5, iterations=100, meta_batch=4
)
# Options and whatever else is not as above, for each.
OPTIONS: dict[str, dict[str, Any]] = {
    "alpha_tim": {},
    "anil": {},
    "anil_closed_form": {"algorithm": "anil", "algorithm_options": {"closed_form": True}},
    "baseline": {},
    "baseline_plus_plus": {},
    "bd_cspn": {},
    "boil": {},
    "cavia": {"algorithm_options": {"lr": 10.0}},
    "cosine": {},
    "finetune": {},
    "fomaml": {},
    "imaml": {},
    "laplacian_shot": {},
    "logistic": {},
    "lp_ft": {"algorithm_options": {"lr": 1e-3}},
    "mann": {},
    "maml": {},
    "maml_plus_plus": {},
    "matching_net": {},
    "matching_net_full_context": {"algorithm": "matching_net", "algorithm_options": {"full_context": True}},
    "meta_baseline": {},
    "meta_curvature": {},
    "meta_lstm": {},
    "meta_sgd": {},
    "nearest_centroid": {},
    "protonet": {"ways": 20, "test_ways": 5},
    "pt_map": {},
    "r2d2": {},
    "relation_net": {},
    "reptile": {},
    "ridge": {},
    "simple_shot": {},
    "task_conditioned": {},
}
UNTRAINED = ("finetune", "nearest_centroid", "lp_ft", "ridge", "simple_shot")
CELLS = {
    f"{name}-{setting.dataset}": dataclasses.replace(setting, **{"algorithm": name, **OPTIONS[name]})
    for setting in (OMNIGLOT, FUTURAMA)
    for name in OPTIONS
} | {
    f"{name}-untrained": dataclasses.replace(OMNIGLOT, **{"algorithm": name, **OPTIONS[name]}, iterations=0)
    for name in UNTRAINED
}


def row(cell: dict[str, Any]) -> dict[str, Any]:
    """What `algorithms.suggest` reads of a cell."""
    recipe, result = cell["recipe"], cell["result"]
    trained = recipe["iterations"] > 0
    return {
        **{name: recipe[name] for name in ("algorithm", "dataset", "model", "shots", "iterations", "meta_batch")},
        "options": recipe["algorithm_options"],
        "classes": cell["train_classes"] if trained else 0,
        "images_per_class": 20 if trained else 0,
        "ways": recipe["test_ways"] or recipe["ways"],
        "accuracy": round(result["accuracy"], 5),
        "interval": round(result["interval"], 5),
    }


def rows_of_recipes() -> list[dict[str, Any]]:
    """The same of the cells of `accuracy.py`: what each recipe gives, in every task that it was tested on.

    Of the first seed alone, which every cell has: another splits the classes another way, and a mean over it would not
    compare with those who have not been trained with it.
    """
    found = []
    for path in sorted(path for name in ("futurama", "omniglot") for path in (ACCURACY / name).glob("*.0.json")):
        cell = json.loads(path.read_text())
        settings = cell["settings"]
        for figure in (each["own"] for each in cell["figures"].values()):
            trained = settings["iterations"] > 0 or cell["start"] is not None
            row = {name: settings[name] for name in ("algorithm", "dataset", "model", "iterations", "meta_batch")}
            row |= {"options": settings.get("algorithm_options", {}), "images_per_class": 20 if trained else 0}
            row |= {"classes": cell["classes"]["train"] if trained else 0}
            row |= {name: figure[name] for name in ("ways", "shots")}
            found.append(row | {name: round(figure[name], 5) for name in ("accuracy", "interval")})
    return found


def measured(done: Cells) -> list[dict[str, Any]]:
    """What the package answers from."""
    return [row(cell) for cell in done.values()] + rows_of_recipes()


def table(done: Cells) -> str:
    """The cells as a Markdown page, best first within each setting."""
    lines = [
        "# Every algorithm, on small budgets",
        "",
        "Written by `python benchmarks/algorithms.py`; every figure is read from the JSON file of its cell, beside",
        "this. Mean accuracy over 600 episodes of unseen characters, and half the width of its 95% interval. The",
        "budgets are far from convergence: they say how far each gets in as many tasks, not how far it goes.",
    ]
    settings: dict[str, list[dict[str, Any]]] = {}
    for name, cell in done.items():
        settings.setdefault(name.rpartition("-")[2], []).append(cell)
    for group in settings.values():
        first = row(group[0])
        seen = f"meta-trained on {first['classes']} classes" if first["classes"] else "not meta-trained"
        lines += [
            "",
            f"## {first['dataset']}, {first['ways']}-way {first['shots']}-shot, {first['model']}, {seen}",
            "",
            "| algorithm | accuracy, % | tasks | not the default |",
            "|---|---|---|---|",
        ]
        for cell in sorted(group, key=lambda cell: -cell["result"]["accuracy"]):
            recipe, line = cell["recipe"], row(cell)
            changed = [f"{name}={value}" for name, value in line["options"].items()]
            changed += [f"trained {recipe['ways']}-way"] if recipe["test_ways"] else []
            changed += [f"meta_lr={recipe['meta_lr']}"] if recipe["meta_lr"] != OMNIGLOT.meta_lr else []
            accuracy = f"**{100 * line['accuracy']:.2f} ± {100 * line['interval']:.2f}**"
            tasks = f"{line['iterations']} x {line['meta_batch']}" if line["iterations"] else ""
            if algorithms.get(line["algorithm"]).transductive:
                changed.append("transductive: looks at all queries together")
            lines.append(f"| `{line['algorithm']}` | {accuracy} | {tasks} | {', '.join(changed)} |")
    return "\n".join([*lines, ""])


def main(argv: list[str] | None = None) -> int:
    """Regenerate the table, or some of its cells."""

    def hand_over(done: Cells) -> None:
        write_bytes(MEASURED, (json.dumps(measured(done), indent=1) + "\n").encode())

    return regenerate(CELLS, "algorithms", table, argv, hand_over)


if __name__ == "__main__":
    sys.exit(main())
