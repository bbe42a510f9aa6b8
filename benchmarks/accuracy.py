"""Regenerates the accuracy table: `python benchmarks/accuracy.py` (or `make bench`).

Every cell is a recipe. Its run is kept under a hash of the recipe, so a cell that was stopped goes on where it was,
and one that is done is not run again. The results are written as JSON, one file a cell, and as one Markdown table.
"""

from __future__ import annotations

import sys

from cells import Cells, Recipe, regenerate

# The inner rates differ by orders of magnitude: neither network has batch norm, and without identity connections
# little of the gradient reaches the body, which alone adapts in BOIL.
CELLS = {
    "CNN_MAML": Recipe("cnn", "maml", {"lr": 0.5, "steps": 1}),
    "CNN_BOIL": Recipe("cnn", "boil", {"lr": 3.0, "steps": 1}, meta_lr=0.001),
    "ResNet_MAML": Recipe("resnet", "maml", {"lr": 0.05, "steps": 1}),
    "ResNet_BOIL": Recipe("resnet", "boil", {"lr": 0.1, "steps": 1}, meta_lr=0.001),
}


def table(done: Cells) -> str:
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
    return regenerate(CELLS, "accuracy", table, argv)


if __name__ == "__main__":
    sys.exit(main())
