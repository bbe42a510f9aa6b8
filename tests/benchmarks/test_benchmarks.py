"""The table of every algorithm on a budget of seconds: cached by recipe, resumable, written from what was measured."""

import importlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
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
    """`benchmarks/NAME.py`, as a module."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module


@pytest.fixture
def table(script, monkeypatch, tmp_path):
    """`benchmarks/algorithms.py` with two cells."""
    module = script("algorithms")
    cells = {f"{name}-glyphs": tiny(module, name) for name in ("maml", "boil")}
    monkeypatch.setattr(module, "CELLS", cells)
    monkeypatch.setattr(module, "MEASURED", tmp_path / "measured.json")
    return module


def tiny(module, algorithm, **changes):
    return module.Recipe("conv4", algorithm, **{"algorithm_options": {"lr": 0.3}, **TINY, **changes})


def cells():
    return importlib.import_module("cells")


def run(module, tmp_path, *names):
    return module.main([*names, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])


def test_regenerates_the_table(table, tmp_path, capsys):
    assert run(table, tmp_path) == 0
    cells = {name: json.loads((tmp_path / "results" / f"{name}.json").read_text()) for name in table.CELLS}
    page = (tmp_path / "results" / "README.md").read_text()
    assert page in capsys.readouterr().out
    for name, cell in cells.items():
        result = cell["result"]
        assert len(result["per_episode"]) == 5 and cell["key"] == table.CELLS[name].key()
        row = table.row(cell)
        assert f"{100 * row['accuracy']:.2f} ± {100 * row['interval']:.2f}" in page
        assert "3 x 2" in page and cell["training_seconds"] > 0


def test_a_cell_that_is_done_is_not_run_again(table, tmp_path, monkeypatch):
    assert run(table, tmp_path, "maml-glyphs") == 0
    assert not (tmp_path / "results" / "boil-glyphs.json").exists()
    monkeypatch.setattr(cells(), "run", lambda *_: pytest.fail("it was run again"))
    assert run(table, tmp_path, "maml-glyphs") == 0
    monkeypatch.setattr(table, "CELLS", {"maml-glyphs": tiny(table, "maml", meta_lr=0.4)})
    with pytest.raises(pytest.fail.Exception, match="run again"):  # another recipe is another cell
        run(table, tmp_path, "maml-glyphs")


def test_a_stopped_cell_goes_on(table, tmp_path, monkeypatch, capsys):
    assert run(table, tmp_path / "whole", "maml-glyphs") == 0
    whole = json.loads((tmp_path / "whole/results/maml-glyphs.json").read_text())
    evaluate = cells().evaluate
    monkeypatch.setattr(cells(), "evaluate", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt("Stopped.")))
    assert run(table, tmp_path, "maml-glyphs") == 130
    assert "The same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(cells(), "evaluate", evaluate)
    assert run(table, tmp_path, "maml-glyphs") == 0
    resumed = json.loads((tmp_path / "results/maml-glyphs.json").read_text())
    assert resumed["result"] == whole["result"] and resumed["training_seconds"] is None


def test_the_committed_table_is_that_of_the_recipes(script):
    """No figure by hand: the page is what its JSON files give, and they are of today's recipes."""
    results, module = ROOT / "benchmarks" / "results" / "algorithms", script("algorithms")
    done = {cell: json.loads((results / f"{cell}.json").read_text()) for cell in module.CELLS}
    assert (results / "README.md").read_text() == module.table(done)
    for key, cell in done.items():
        values = cell["result"]["per_episode"]
        assert cell["key"] == module.CELLS[key].key() and len(values) == 600
        assert cell["result"]["accuracy"] == pytest.approx(sum(values) / 600)
        assert len(cell["test_classes"]) in (10, 423)


def test_what_is_suggested_is_what_was_measured(script):
    """The table in the package is made of the committed cells."""
    module = script("algorithms")
    results = ROOT / "benchmarks" / "results" / "algorithms"
    done = {cell: json.loads((results / f"{cell}.json").read_text()) for cell in module.CELLS}
    assert json.loads(module.MEASURED.read_text()) == module.measured(done)


def test_every_algorithm_on_a_budget_of_seconds(script, tmp_path, monkeypatch, capsys):
    module = script("algorithms")
    recipes = {
        "protonet-glyphs": tiny(module, "protonet", algorithm_options={}, ways=3, test_ways=2),
        "anil-glyphs": tiny(module, "anil", algorithm_options={"closed_form": True}),
        "finetune-untrained": tiny(module, "finetune", algorithm_options={}, iterations=0),
    }
    monkeypatch.setattr(module, "CELLS", recipes)
    monkeypatch.setattr(module, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(module, "ACCURACY", tmp_path)
    assert run(module, tmp_path) == 0
    page = capsys.readouterr().out
    assert "| `protonet` | **" in page and "trained 3-way" in page and "closed_form=True" in page
    rows = {row["algorithm"]: row for row in json.loads((tmp_path / "measured.json").read_text())}
    assert rows["protonet"]["ways"] == 2 and rows["anil"]["options"] == {"closed_form": True}
    assert (rows["finetune"]["classes"], rows["finetune"]["iterations"]) == (0, 0)


def test_an_unknown_cell_is_named(table, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(table, tmp_path, "C")
    assert stopped.value.code == 2 and "unknown cell C" in capsys.readouterr().err
