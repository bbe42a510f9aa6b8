"""Which algorithm to take, from a table of measurements; and the committed table itself."""

import json

import pytest
from command_line import GLYPHS, TINY

from fewshot_kit import algorithms
from fewshot_kit.algorithms import suggestion
from fewshot_kit.errors import InputError

FEW = {"classes": 64, "images_per_class": 20, "ways": 5, "shots": 5, "dataset": "few", "model": "conv4"}
MANY = FEW | {"classes": 1000, "shots": 1, "dataset": "many"}
NONE = MANY | {"classes": 0, "images_per_class": 0, "iterations": 0}


def row(algorithm, accuracy, setting, **more):
    budget = {"iterations": 400, "meta_batch": 8, "interval": 0.01, "options": {}}
    return budget | setting | {"algorithm": algorithm, "accuracy": accuracy} | more


@pytest.fixture
def table(tmp_path, monkeypatch):
    rows = [
        row("maml", 0.9, MANY),
        row("anil", 0.92, MANY, options={"closed_form": True}),
        row("protonet", 0.91, MANY),
        row("maml", 0.8, FEW),
        row("protonet", 0.7, FEW),
        row("nearest_centroid", 0.6, NONE),
        row("finetune", 0.5, NONE),
    ]
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(rows))
    monkeypatch.setattr(suggestion, "MEASURED", path)


def test_the_best_of_the_nearest_setting_and_the_rows_behind_it(table):
    found = algorithms.suggest(classes=700, images_per_class=30)
    assert (found.algorithm, found.options) == ("anil", {"closed_form": True})
    assert [r.algorithm for r in found.rows] == ["anil", "protonet", "maml"]
    assert [r.algorithm for r in found.alike] == ["anil", "protonet", "maml"]  # 0.90 + 0.01 reaches 0.92 - 0.01
    assert {r.dataset for r in found.rows} == {"many"}


def test_few_classes_and_more_shots_are_another_setting(table):
    found = algorithms.suggest(classes=40, images_per_class=20, shots=5)
    assert found.algorithm == "maml" and [r.algorithm for r in found.alike] == ["maml"]


@pytest.mark.parametrize("classes", [0, 4])
def test_with_fewer_classes_than_ways_there_is_nothing_to_meta_train_on(table, classes):
    assert algorithms.suggest(classes=classes, images_per_class=20).algorithm == "nearest_centroid"


def test_a_row_says_where_it_comes_from(table):
    found = algorithms.suggest(classes=1000, images_per_class=20)
    assert str(found.rows[0]) == (
        "anil closed_form=True: 92.00 +- 1.00 % on many, 5-way 1-shot, conv4, 400 x 8 tasks of 1000 classes x 20"
    )
    assert str(algorithms.suggest(classes=0, images_per_class=1).rows[0]).endswith("conv4, not meta-trained")


@pytest.mark.parametrize(
    "counts, said",
    [
        ({"classes": -1, "images_per_class": 20}, "classes is -1; it must be a whole number, 0 or more."),
        ({"classes": 10, "images_per_class": 0}, "images_per_class is 0"),
        ({"classes": 10, "images_per_class": 5, "ways": 0}, "ways is 0"),
    ],
)
def test_counts_out_of_range(table, counts, said):
    with pytest.raises(InputError, match=said):
        algorithms.suggest(**counts)


def test_the_command_line_looks_up_a_data_set_or_a_run(cli, table, tmp_path):
    line = f"list algorithms --for glyphs --dataset-options {GLYPHS.partition('options ')[2]}"
    said = cli.good(f"{line} --shots 5")
    assert "classes to meta-train on, of 6 images or more" in said
    assert said.splitlines()[1].startswith("  * maml: 80.00") and said.splitlines()[2].startswith("    protonet: 70.00")
    run = tmp_path / "run"
    cli.good(f"train {TINY} --algorithm maml --ways 3 --shots 1 --run {run}")
    found = json.loads(cli.good(f"list algorithms --for {run} --json"))
    assert found["algorithm"] == "maml" and found["images_per_class"] == 6 and len(found["rows"]) == 2


def test_what_the_command_line_refuses(cli, table):
    assert "--for suggests algorithms, not models" in cli.refused("list models --for glyphs")
    assert "sinusoid has none; the algorithms that do regression are anil, boil" in cli.refused("list --for sinusoid")
    assert "Unknown dataset 'nowhere'" in cli.refused("list --for nowhere")


def test_the_committed_table_can_be_asked(cli):
    rows = algorithms.measured()
    assert {row.algorithm for row in rows if row.dataset == "omniglot" and row.iterations} == set(algorithms.names())
    found = algorithms.suggest(classes=1000, images_per_class=20)
    assert found.rows[0].accuracy == max(row.accuracy for row in found.rows)
    assert all(0 < row.accuracy < 1 and row.interval > 0 for row in rows)
