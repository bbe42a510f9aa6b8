"""The accuracy table on a budget of seconds: cached by recipe, resumable, written from what was measured."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TINY = {
    "dataset": "glyphs",
    "dataset_options": {"classes": 8, "drawings": 6, "image_size": 14},  # too few for a validation split
    "ways": 2,
    "shots": 1,
    "queries": 2,
    "iterations": 3,
    "meta_batch": 2,
    "test_queries": 2,
    "test_episodes": 5,
}


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("accuracy", ROOT / "benchmarks" / "accuracy.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "accuracy", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def accuracy(script, monkeypatch):
    monkeypatch.setattr(script, "CELLS", {"A": tiny(script, "maml"), "B": tiny(script, "boil")})
    return script


def tiny(module, algorithm, lr=0.3):
    return module.Recipe("conv4", algorithm, {"lr": lr}, **TINY)


def run(module, tmp_path, *cells):
    return module.main([*cells, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])


def test_regenerates_the_table(accuracy, tmp_path, capsys):
    assert run(accuracy, tmp_path) == 0
    cells = {name: json.loads((tmp_path / "results" / f"{name}.json").read_text()) for name in "AB"}
    page = (tmp_path / "results" / "README.md").read_text()
    assert page in capsys.readouterr().out
    for name, cell in cells.items():
        result = cell["result"]
        assert len(result["per_episode"]) == 5 and cell["key"] == accuracy.CELLS[name].key()
        assert f"{100 * result['accuracy']:.2f} ± {100 * result['interval']:.2f}" in page
        assert "3 x 2 tasks" in page and cell["training_seconds"] > 0


def test_a_cell_that_is_done_is_not_run_again(accuracy, tmp_path, monkeypatch):
    assert run(accuracy, tmp_path, "A") == 0
    assert not (tmp_path / "results" / "B.json").exists()
    monkeypatch.setattr(accuracy, "run", lambda *_: pytest.fail("it was run again"))
    assert run(accuracy, tmp_path, "A") == 0
    monkeypatch.setattr(accuracy, "CELLS", {"A": tiny(accuracy, "maml", lr=0.4)})
    with pytest.raises(pytest.fail.Exception, match="run again"):  # another recipe is another cell
        run(accuracy, tmp_path, "A")


def test_a_stopped_cell_goes_on(accuracy, tmp_path, monkeypatch, capsys):
    assert run(accuracy, tmp_path / "whole", "A") == 0
    whole = json.loads((tmp_path / "whole/results/A.json").read_text())
    evaluate = accuracy.evaluate
    monkeypatch.setattr(accuracy, "evaluate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt("Stopped.")))
    assert run(accuracy, tmp_path, "A") == 130
    assert "The same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(accuracy, "evaluate", evaluate)
    assert run(accuracy, tmp_path, "A") == 0
    resumed = json.loads((tmp_path / "results/A.json").read_text())
    assert resumed["result"] == whole["result"] and resumed["training_seconds"] is None


def test_the_committed_table_is_that_of_the_recipes(script):
    """No figure by hand: the page is what its JSON files give, and they are of today's recipes."""
    results = ROOT / "benchmarks" / "results" / "accuracy"
    done = {name: json.loads((results / f"{name}.json").read_text()) for name in script.CELLS}
    assert (results / "README.md").read_text() == script.table(done)
    for name, cell in done.items():
        values = cell["result"]["per_episode"]
        assert cell["key"] == script.CELLS[name].key() and len(values) == 600
        assert cell["result"]["accuracy"] == pytest.approx(sum(values) / 600)
        assert len(cell["test_classes"]) == 10


def test_an_unknown_cell_is_named(accuracy, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(accuracy, tmp_path, "C")
    assert stopped.value.code == 2 and "unknown cell C" in capsys.readouterr().err
