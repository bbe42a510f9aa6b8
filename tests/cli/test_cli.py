"""The command line as a user types it: train, evaluate, adapt, list and doctor."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from command_line import BUDGET, GLYPHS, TINY, Said, write_images
from PIL import Image

import fewshot_kit
from fewshot_kit import Learner, datasets
from fewshot_kit.cli.parser import main
from fewshot_kit.runs.storage import read
from fewshot_kit.training.hooks import Hooks

FILES = ["checkpoints/best.safetensors", "checkpoints/last.safetensors", "config.yaml", "curve.png", "metrics.jsonl"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A finished run, and what training it said."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(["train", *TINY.split(), "--run", str(folder)]) == 0
    return folder, out.getvalue()


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of that run, in the folder `run` of the working directory."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def weights(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return read(run / "checkpoints" / f"{which}.safetensors")[0]


def same_run(first: Path, second: Path) -> None:
    """Bit for bit: weights and optimiser, metrics, results, settings."""
    for which in ("last", "best"):
        one, other = weights(first, which), weights(second, which)
        assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    for file in ("metrics.jsonl", "config.yaml"):
        assert (first / file).read_text() == (second / file).read_text()
    results = [json.loads((run / "results.json").read_text()) for run in (first, second)]
    for result in results:  # how long it took, and in how many parts, is all that may differ
        assert result.pop("seconds") > 0 and result.pop("resumed") in (True, False)
    assert results[0] == results[1]


def test_train_writes_the_run_folder_and_says_where_and_how_good(trained):
    run, out = trained
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [*FILES, "results.json"]
    results = json.loads((run / "results.json").read_text())
    assert [one["batch_norm"] for one in results["test"]] == ["transductive", "support"]
    for one in results["test"]:
        assert f"{100 * one['accuracy']:.2f} +- {100 * one['interval']:.2f} % (4 episodes, 5-way 1-shot" in out
    assert f"Run folder: {run}\nLearning curve: {run / 'curve.png'}\n" in out
    with Image.open(run / "curve.png") as curve:
        assert min(curve.size) > 100


def test_train_prints_one_json_object_and_names_its_folder_itself(cli):
    said = cli(f"train {TINY} --iterations 1 --json")
    found = json.loads(said.out)
    assert found["run"] == "runs/glyphs-maml-conv4-5w1s" and Path(found["curve"]).exists()
    assert found["iterations"] == 1 and 0 <= found["test"][0]["accuracy"] <= 1 and "per_episode" not in found["test"][0]
    assert said.err == ""


def test_a_config_makes_the_same_run_again(cli, run):
    cli.good("train --config run/config.yaml --run again")
    same_run(run, Path("again"))


def test_flags_go_before_the_file_and_options_add_up(cli):
    Path("a.yaml").write_text(
        "dataset: glyphs\ndataset_options: {classes: 30, drawings: 6, image_size: 14}\nmodel_options: {hidden: 4}\n"
        "algorithm: boil\nalgorithm_options: {lr: 3e-1, steps: 2}\nmeta_lr: 1e-2\nways: 4\niterations: 1\n"
        "meta_batch: 2\nqueries: 2\ntest_queries: 2\nvalidation_episodes: 2\ntest_episodes: 2\nrun: from-file\n"
    )
    cli.good("train --config a.yaml --ways 3 --algorithm-options steps=1 --model-options seed=7")
    config = fewshot_kit.runs.checkpoints.read_config("from-file")
    assert config["training"]["ways"] == 3 and config["training"]["meta_lr"] == 0.01
    assert config["algorithm"]["name"] == "boil" and config["algorithm"]["options"] == {"lr": 0.3, "steps": 1}
    assert config["model"]["options"] == {"ways": 3, "channels": 1, "image_size": 14, "seed": 7, "hidden": 4}
    # A run's config leaves the network's sizes to the task, and another algorithm does not get BOIL's options.
    cli.good("train --config from-file/config.yaml --algorithm maml --ways 2 --run other")
    config = fewshot_kit.runs.checkpoints.read_config("other")
    assert config["model"]["options"]["ways"] == 2 and config["model"]["options"]["seed"] == 7
    assert config["algorithm"]["options"] == {}


class _Stop(Hooks):
    def on_iteration(self, training) -> None:
        if training.iteration == 1:
            raise KeyboardInterrupt


def test_ctrl_c_says_so_and_resume_needs_no_flag_but_the_folder(cli, run, monkeypatch):
    from fewshot_kit.experiments import running as experiment

    before = experiment.train_by
    stopping = lambda *args, hooks, **kwargs: before(*args, hooks=[*hooks, _Stop()], **kwargs)  # noqa: E731
    monkeypatch.setattr(experiment, "train_by", stopping)
    said = cli(f"train {TINY} --run stopped --json")
    assert said == Said(130, '{"error": "Interrupted."}\n', "fewshot-kit: Interrupted.\n")
    assert not Path("stopped/results.json").exists()
    monkeypatch.setattr(experiment, "train_by", before)
    cli.good("train --run stopped --resume")
    same_run(run, Path("stopped"))


def test_resume_goes_further_where_the_rate_is_constant(cli):
    cli.good(f"train {TINY} --schedule constant --iterations 1 --run a")
    assert json.loads(cli.good("train --run a --resume --iterations 2 --json"))["iterations"] == 2
    cli.good(f"train {TINY} --schedule constant --run b")
    same_run(Path("a"), Path("b"))


def test_a_network_for_vectors_fits_itself_to_the_images(cli):
    cli.good(f"train {GLYPHS} {BUDGET} --model mlp --model-options hidden=[8] --run vectors")
    assert fewshot_kit.load("vectors").model.hidden[0].in_features == 14 * 14


def test_evaluate_gives_the_figures_of_the_run(cli, run):
    recorded = json.loads((run / "results.json").read_text())["test"]
    for one in recorded:
        found = json.loads(cli.good(f"evaluate run --episodes 4 --batch-norm {one['batch_norm']} --json"))
        assert found == {name: value for name, value in one.items() if name != "per_episode"}
    assert f"{100 * recorded[0]['accuracy']:.2f} +- " in cli.good("evaluate run --episodes 4")


def test_evaluate_on_other_tasks(cli, run):
    found = json.loads(cli.good("evaluate run --episodes 3 --split validation --ways 3 --shots 2 --queries 1 --json"))
    assert (found["ways"], found["shots"], found["queries"], found["split"]) == (
        3,
        2,
        1,
        "the validation split of glyphs",
    )
    assert json.loads(cli.good("evaluate run --episodes 1 --json"))["interval"] is None  # one task has no interval
    figure = 'evaluate run --episodes 20 --batch-norm running --json --algorithm-options "lr=1e-9"'
    assert cli.good(figure) != cli.good(figure.replace('"lr=1e-9"', "lr=2.5 steps=3"))
    assert "test split of glyphs" in cli.good("evaluate run --episodes 2 --dataset-options classes=40")
    assert json.loads(cli.good("evaluate run --episodes 2 --dataset glyphs --dataset-options image_size=16 --json"))


def test_evaluate_where_python_made_the_run(cli):
    model = fewshot_kit.models.create("conv4", hidden=4, seed=0)
    algorithm = fewshot_kit.algorithms.create("maml", model=model)
    fewshot_kit.save(algorithm, "saved", data=datasets.create("glyphs", classes=30, image_size=14))
    assert "5-way 1-shot" in cli.good("evaluate saved --episodes 2 --queries 2")
    fewshot_kit.save(algorithm, "bare")
    assert "dataset that has no name" in cli.refused("evaluate bare --episodes 2")
    assert cli.good("evaluate bare --episodes 2 --dataset glyphs --dataset-options classes=30 drawings=6 --queries 2")


def test_adapt_classifies_a_persons_own_images(cli, run):
    write_images(Path("own"), {"small": 3, "middle": 3, "large": 3})
    Image.open("own/small/0.png").convert("RGB").resize((40, 40)).save("photo.jpg", quality=95)
    ink = Image.open("own/large/0.png").point(lambda value: 255 - value)  # opaque where there is ink
    Image.merge("RGBA", [*Image.new("RGB", ink.size).split(), ink]).save("clear.png")
    out = cli.good("adapt run own photo.jpg clear.png own --algorithm-options steps=20")
    head, *rows = out.splitlines()
    assert head.split() == ["image", "label", "probability", "then"]
    assert [row.split()[:2] for row in rows[:2] + rows[10:11]] == [
        ["photo.jpg", "small"], ["clear.png", "large"], ["own/small/2.png", "small"],
    ]  # fmt: skip
    assert [row.split(":")[0] for row in rows[11:]] == ["Taken", "Accuracy to expect", "Sheet"]
    assert Path("predictions.png").read_bytes().startswith(b"\x89PNG")

    found = json.loads(
        cli.good("adapt run own photo.jpg own/middle --algorithm-options steps=20 --save kept/one --json")
    )
    assert found["classes"] == ["large", "middle", "small"] and len(found["predictions"]) == 4
    assert set(found["predictions"][0]) == {"image", "label", "probability", "probabilities"}
    assert found["written"] == {"learner": "kept/one"} and found["expected"]["held_out"] == 9
    queries = [Path(one["image"]) for one in found["predictions"]]
    x = datasets.load_images(queries, datasets.Transform(14, invert=True))
    learner = Learner.load("kept/one")
    assert learner.predict(x) == [one["label"] for one in found["predictions"]]
    assert [round(float(row.max()), 4) for row in learner.predict_proba(x)] == [
        one["probability"] for one in found["predictions"]
    ]


def test_adapt_takes_each_image_by_itself_unless_told_otherwise(cli, run):
    write_images(Path("own"), {"small": 2, "large": 2})
    together = json.loads(cli.good("adapt run own own --json"))["predictions"]
    alone = [json.loads(cli.good(f"adapt run own {one['image']} --json"))["predictions"][0] for one in together]
    labels, chances = zip(*((one["label"], one["probability"]) for one in together), strict=True)
    assert tuple(one["label"] for one in alone) == labels
    assert [one["probability"] for one in alone] == pytest.approx(chances, abs=2e-4)  # rounded, and summed otherwise
    half = json.loads(cli.good("adapt run own own/small --json --batch-norm transductive"))["predictions"]
    assert half != [one for one in together if "/small/" in one["image"]]


def test_adapt_a_run_of_colour_images_from_a_folder(cli):
    write_images(Path("data"), {f"class{index}": 4 for index in range(8)}, size=(24, 20))
    options = "--dataset folder --dataset-options root=data image_size=16 --ways 2 --model-options hidden=4"
    cli.good(f"train {options} --iterations 1 --meta-batch 1 --queries 1 --test-queries 1 --test-episodes 2 --run own")
    assert cli.good("adapt own data/.. data/class0/0.png").splitlines()[1].split()[:2] == ["data/class0/0.png", "data"]
    found = json.loads(cli.good("evaluate own --split train --episodes 2 --json"))
    assert found["split"] == "the training split of folder data" and found["queries"] == 1


def test_list(cli):
    out = cli.good("list")
    assert "models:\n" in out and "algorithms:\n" in out and "datasets:\n" in out and "  conv4 " in out
    assert cli.good("list algorithms 'f*maml'").startswith("algorithms:\n  fomaml  First-order MAML")
    assert cli.good("list models zebra*") == "models:\n  nothing matches zebra*\n"
    found = json.loads(cli.good("list datasets --json"))
    assert list(found) == ["datasets"] and found["datasets"]["glyphs"].endswith(".")


def test_doctor(cli):
    said = cli("doctor --json")
    checks = json.loads(said.out)
    assert {"torch", "learn2learn", "data"} <= {check["name"] for check in checks}
    assert said.status == (0 if all(check["ok"] for check in checks) else 1)


def test_quiet_leaves_the_result_and_nothing_else(cli, monkeypatch):
    from fewshot_kit.experiments import running as experiment

    before = experiment.train_by

    def warning(*args, **options):
        print("a notice", file=sys.stderr)
        return before(*args, **options)

    monkeypatch.setattr(experiment, "train_by", warning)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    loud, still = cli(f"train {TINY} --run loud"), cli(f"train {TINY} --run still --quiet")
    assert "a notice" in loud.err and "meta-train: 100%" in loud.err and "evaluate the test split" in loud.err
    assert still == Said(0, loud.out.replace("loud", "still"), "")
    for line in ("evaluate still --episodes 2", "list models", "cache", "list models --json"):
        assert cli(f"{line} --quiet") == Said(0, cli(line).out, "")
    assert "There is no run folder gone" in cli.refused("evaluate gone --quiet")
    assert "There is no flag --quite. Did you mean '--quiet'?" in cli.refused("evaluate still --quite")


def test_cache_says_where_and_clears_only_what_the_kit_wrote(cli):
    folder = Path.cwd() / "cache"
    assert cli.good("cache") == f"{folder} holds 0 files, 0.0 MB\n"
    write_images(Path("data"), {f"class{index}": 25 for index in range(8)})
    datasets.create("folder", root="data")
    (kept,) = folder.iterdir()
    (folder / "mine.safetensors").write_bytes(b"mine")
    size = round(kept.stat().st_size / 1e6, 1)
    assert size == 4.2  # 200 images of 3 x 84 x 84 bytes
    found = {"folder": str(folder), "files": 1, "megabytes": size, "cleared": False}
    assert json.loads(cli.good("cache --json")) == found
    assert cli.good("cache --clear") == f"Freed 1 file, 4.2 MB in {folder}\n"
    assert [path.name for path in folder.iterdir()] == ["mine.safetensors"]
    assert json.loads(cli.good("cache --clear --json")) == {**found, "files": 0, "megabytes": 0, "cleared": True}


def test_help_and_version(cli, capsys):
    for line, expected in (("--help", "with a 95% interval"), ("train --help", "--meta-lr RATE"), ("--version", "0.")):
        with pytest.raises(SystemExit) as stopped:
            cli(line)
        assert stopped.value.code == 0 and expected in capsys.readouterr().out
    said = cli("")
    assert said.status == 2 and said.out == "" and "evaluate" in said.err and said.err.startswith("usage: fewshot-kit")
