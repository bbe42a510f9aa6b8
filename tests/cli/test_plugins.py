"""`--plugin FILE.py`: a script's own algorithm, model and data set at the command line."""

from __future__ import annotations

import json

import pytest
from command_line import BUDGET, GLYPHS

from fewshot_kit import algorithms, datasets, models

MINE = """
import torch
from torch import nn

from fewshot_kit import Algorithm, algorithms, datasets, models


@algorithms.register("plug-nearest")
class Nearest(Algorithm):
    "The label of the nearest support example."

    def adapt(self, x, y):
        return {"x": self.model(x), "y": nn.functional.one_hot(y, 3).to(x.dtype)}

    def predict(self, state, x):
        return -torch.cdist(self.model(x), state["x"]) @ state["y"]


@models.register("plug-flat")
def flat(ways=5, inputs=1):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8))


@datasets.register("plug-glyphs")
def glyphs(root=None):
    return datasets.glyphs.glyphs(classes=30, drawings=6, image_size=14)
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The file; what it registers is forgotten afterwards."""
    for room in (algorithms, models, datasets):
        registry = room.register.__self__
        monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_train_evaluate_and_list_with_ones_own(cli, tmp_path, mine):
    names = "--algorithm plug-nearest --model plug-flat --dataset plug-glyphs"
    run = tmp_path / "run"
    said = cli.good(f"train --plugin {mine} {names} {BUDGET} --ways 3 --run {run}")
    assert "Unseen classes of glyphs" in said
    found = json.loads(cli.good(f"evaluate {run} --plugin {mine} --episodes 4 --json"))
    assert found["accuracy"] == json.loads((run / "results.json").read_text())["test"][0]["accuracy"]
    listed = cli.good(f"list algorithms 'plug-*' --plugin {mine}")
    assert listed == "algorithms:\n  plug-nearest  The label of the nearest support example.\n"


def test_a_run_of_a_plugin_without_it(cli, tmp_path, mine, monkeypatch):
    run = tmp_path / "run"
    cli.good(f"train --plugin {mine} --algorithm plug-nearest --model mlp {GLYPHS} {BUDGET} --ways 3 --run {run}")
    registry = algorithms.register.__self__
    monkeypatch.delitem(registry._factories, "plug-nearest")
    assert "Unknown algorithm 'plug-nearest'" in cli.refused(f"evaluate {run}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is no Python file; give the path of one, such as mine.py."),
        ("x = 1\n1 / 0\n", "fails in line 2 (ZeroDivisionError: division by zero); mend it first."),
        ("def broken(:\n", "fails in line 1 (SyntaxError: invalid syntax (bad.py, line 1)); mend it first."),
        ("import sys\n\nsys.exit(3)\n", "fails in line 3 (SystemExit: 3); mend it first."),
        (
            "import nothing_like_it\n",
            "fails in line 1 (ModuleNotFoundError: No module named 'nothing_like_it')",
        ),
        (
            "from fewshot_kit import algorithms\n@algorithms.register('maml')\nclass Mine: ...\n",
            "(The algorithm name 'maml' is taken by fewshot_kit.algorithms.maml.MAML; give ",
        ),
    ],
)
def test_a_plugin_that_cannot_be_loaded(cli, tmp_path, content, said):
    file = tmp_path / "bad.py"
    if content is not None:
        file.write_text(content)
    found = cli.refused(f"list algorithms --plugin {file}")
    assert found.startswith(f"--plugin {file} ") and said in found
