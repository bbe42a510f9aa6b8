"""The accuracy tables on a budget of seconds: kept by a hash, resumable, shared out, written from what was measured."""

import importlib
import json
from pathlib import Path

import pytest

from fewshot_kit.experiments import recipes

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "accuracy"
TINY = {
    "model": "conv4",
    "model_options": {"hidden": 4},
    "dataset_options": {"classes": 12, "drawings": 6, "image_size": 16},
    "ways": 2,
    "shots": 1,
    "queries": 2,
    "iterations": 3,
    "meta_batch": 2,
    "validation_episodes": 2,
    "test_queries": 15,
}


@pytest.fixture
def accuracy(monkeypatch):
    """The script, with a table of two cells and recipes of seconds."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module, tables = importlib.import_module("accuracy"), importlib.import_module("accuracy_jobs.tables")
    files = {"glyphs": {"all": TINY, "baseline": {"algorithm_options": {"batch": 8}}, "maml": {"init": "baseline"}}}
    files["glyphs"]["all"]["dataset_options"]["drawings"] = 20
    monkeypatch.setattr(recipes, "_sections", lambda name: files.get(name, {}))
    test = tables.Test("2w1s", 2, 1)
    cells = {
        "trained": tables.Cell({"dataset": "glyphs", "algorithm": "maml"}, (test,), episodes=4, by_queries=True),
        "plain": tables.Cell(
            {"dataset": "glyphs", "algorithm": "finetune", "iterations": 0},
            (test,), episodes=4, choices=({"steps": 1}, {"steps": 3}),
        ),
    }  # fmt: skip
    rows = {name: tables.Row((name,), {"2w1s": "90"} if name == "trained" else {}) for name in cells}
    small = tables.Table("Small", "Says.", "Published.", ("2w1s",), cells, rows, {"trained": "plain"})
    monkeypatch.setattr(module, "TABLES", {"futurama": small})
    monkeypatch.setattr(importlib.import_module("accuracy_jobs.cell"), "CHOOSING", 2)
    return module


def run(module, tmp_path, *more):
    return module.main([*more, "--runs", str(tmp_path / "runs"), "--results", str(tmp_path / "results")])


def result(tmp_path, cell, seed=0):
    return json.loads((tmp_path / "results" / "futurama" / f"{cell}.{seed}.json").read_text())


def test_regenerates_a_table_and_again_to_the_bit(accuracy, tmp_path, capsys):
    assert run(accuracy, tmp_path) == 0
    page = (tmp_path / "results" / "futurama" / "README.md").read_text()
    assert page in capsys.readouterr().out
    trained, plain = result(tmp_path, "trained"), result(tmp_path, "plain")
    for one in (trained, plain):
        figure = one["figures"]["2w1s"]["own"]
        assert f"**{100 * figure['accuracy']:.2f}** ± {100 * figure['interval']:.2f} (1 seed)" in page
        assert figure["episodes"] == 4 and one["classes"]["train"] > 0 and one["code"]
    assert trained["start"]["algorithm"] == "baseline" and trained["seconds"]["start"] > 0
    policies = {name: each["batch_norm"] for name, each in trained["figures"]["2w1s"].items()}
    assert policies == {"own": "transductive", "inductive": "support", "transductive": "transductive"}
    assert "The same, inductive" in page and "The same, transductive" not in page  # which it is already
    assert set(plain["figures"]["2w1s"]) == {"own", "inductive"}
    assert plain["chosen"] in ({"steps": 1}, {"steps": 3}) and plain["weights"] is None
    assert (tmp_path / "results" / "futurama" / "figures.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "results" / "futurama" / "trained.0.json").unlink()
    assert run(accuracy, tmp_path, "trained", "--runs", str(tmp_path / "others")) == 0
    assert result(tmp_path, "trained")["figures"] == trained["figures"]


def test_a_part_of_the_data_is_marked_as_one(accuracy, tmp_path):
    assert run(accuracy, tmp_path, "plain") == 0
    page = importlib.import_module("accuracy_jobs.page").page
    done = {"plain": [result(tmp_path, "plain")]}
    table = accuracy.TABLES["futurama"]
    assert done["plain"][0]["data"] == "glyphs" and "part of the data" not in page("small", table, done)
    done["plain"][0]["data"] = "photos (a subset: 12 of 20 images)"
    assert "**Figures of a part of the data: photos (a subset: 12 of 20 images).**" in page("small", table, done)


def test_a_cell_that_is_done_is_not_run_again(accuracy, tmp_path, monkeypatch):
    assert run(accuracy, tmp_path, "plain") == 0
    assert not (tmp_path / "results" / "futurama" / "trained.0.json").exists()
    monkeypatch.setattr(accuracy, "run", lambda *_: pytest.fail("it was run again"))
    assert run(accuracy, tmp_path, "plain") == 0
    with pytest.raises(pytest.fail.Exception, match="run again"):  # another seed is another figure
        run(accuracy, tmp_path, "plain", "--seeds", "0", "1")
    TINY["queries"] = 3
    try:
        with pytest.raises(pytest.fail.Exception, match="run again"):  # and so is another recipe
            run(accuracy, tmp_path, "plain")
    finally:
        TINY["queries"] = 2


def test_shares_and_seeds(accuracy, tmp_path, capsys):
    """Two shares have every cell of both seeds once; the page then shows the spread."""
    seen = []
    original = accuracy.run
    accuracy.run = lambda cell, name, seed, *rest: seen.append((name, seed)) or original(cell, name, seed, *rest)
    try:
        for part in ("1/2", "2/2"):
            assert run(accuracy, tmp_path, "--seeds", "0", "1", "--shard", part) == 0
    finally:
        accuracy.run = original
    assert sorted(seen) == sorted((name, seed) for name in ("trained", "plain") for seed in (0, 1))
    means = [100 * result(tmp_path, "plain", seed)["figures"]["2w1s"]["own"]["accuracy"] for seed in (0, 1)]
    spread = abs(means[0] - means[1]) / 2**0.5
    assert f"**{sum(means) / 2:.2f}** ± " in (page := capsys.readouterr().out) and f"(2 seeds ± {spread:.2f})" in page


def test_a_stopped_cell_goes_on(accuracy, tmp_path, monkeypatch, capsys):
    assert run(accuracy, tmp_path / "whole", "trained") == 0
    module = importlib.import_module("accuracy_jobs.cell")
    with monkeypatch.context() as patch:
        patch.setattr(module, "_tested", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt("Stopped.")))
        assert run(accuracy, tmp_path, "trained") == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert run(accuracy, tmp_path, "trained") == 0
    resumed = result(tmp_path, "trained")
    assert resumed["figures"] == result(tmp_path / "whole", "trained")["figures"]
    assert "training" not in resumed["seconds"]


def test_the_deviation_over_episodes(accuracy):
    """Where a row asks for it, by the interval's own definition: 1.96 s / sqrt(n)."""
    page = importlib.import_module("accuracy_jobs.page")
    own = {"accuracy": 0.5, "interval": 0.098, "episodes": 100, "batch_norm": None}
    value = page.figure({"cell": [{"figures": {"5w5s": {"own": own}}}]}, ("cell",), "5w5s")
    assert page.shown(value, deviation=True) == "**50.00** ± 9.80, sd 50.00 (1 seed)"
    assert page.shown(value) == "**50.00** ± 9.80 (1 seed)"


@pytest.mark.parametrize("said, told", [(["C"], "unknown cell C"), (["--shard", "3/2"], "3/2' is no share")])
def test_what_is_asked_wrongly(accuracy, tmp_path, capsys, said, told):
    with pytest.raises(SystemExit) as stopped:
        run(accuracy, tmp_path, *said)
    assert stopped.value.code == 2 and told in capsys.readouterr().err


@pytest.mark.parametrize("name", ["futurama", "omniglot", "mini_imagenet", "sinusoid"])
def test_the_committed_page_is_that_of_its_cells(monkeypatch, name):
    """No figure by hand: the page is what its JSON files give; and they are of today's recipes."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("accuracy")
    table, results = module.TABLES[name], RESULTS / name
    done = module.read(table, results)
    if not done:
        pytest.skip(f"nothing of {name} was run yet")
    assert (results / "README.md").read_text() == importlib.import_module("accuracy_jobs.page").page(name, table, done)
    for cell, seeds in done.items():
        for one in seeds:
            assert one["key"] == table.cells[cell].key(one["seed"]), cell
            assert {each["own"]["episodes"] for each in one["figures"].values()} == {table.cells[cell].episodes}
