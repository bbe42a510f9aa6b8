"""Runs, tasks and images that `evaluate`, `adapt` and `--resume` cannot use: one clear sentence, and nothing lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import TINY, snapshot, write_images
from small_runs import forget_digests

from fewshot_kit.cli.parser import main
from fewshot_kit.runs.config import read_config, write_config


@pytest.fixture
def run(tmp_path) -> Path:
    """A short finished run in the folder `run` of the working directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(["train", *TINY.split(), "--iterations", "1", "--run", "run"]) == 0
    return tmp_path / "run"


def test_runs_that_cannot_be_used(cli, run):
    Path("empty").mkdir()
    lines = ["evaluate {} --episodes 2", "adapt {} run run", "train --run {} --resume"]
    assert "There is no run folder, learner or network 'gone'." in cli.refused("adapt gone run run")
    for line in lines:
        if not line.startswith("adapt"):
            assert "There is no run folder gone; check the path" in cli.refused(line.format("gone"))
        assert "empty has no config.yaml: it is no run folder, or never reached" in cli.refused(line.format("empty"))
    last, best = (run / "checkpoints" / f"{which}.safetensors" for which in ("last", "best"))
    whole = best.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:-1], b"", whole[:-9] + b"\x00" + whole[-8:]):
        best.write_bytes(damaged)
        assert "run/checkpoints/best.safetensors is " in cli.refused(lines[0].format("run"))
        assert best.read_bytes() == damaged
    last.write_bytes(last.read_bytes()[:-1])
    assert "run/checkpoints/last.safetensors is truncated or damaged" in cli.refused(lines[2].format("run"))
    best.unlink()
    last.unlink()
    assert "run has no last.safetensors: the run never reached its first checkpoint" in cli.refused(
        lines[0].format("run")
    )
    config = read_config(run)
    write_config(run, {**config, "version": 2})
    for line in lines:
        assert "run/config.yaml has version 2 and this fewshot-kit reads up to 1" in cli.refused(line.format("run"))
    text = (run / "config.yaml").read_text()
    for cut in range(0, len(text), len(text) // 12):  # half-written by another program
        (run / "config.yaml").write_text(text[:cut])
        cli.refused(lines[0].format("run"))


def test_an_existing_run_is_left_alone(cli, run):
    before = snapshot(run)
    assert "The run folder run exists; go on with it by --resume" in cli.refused(f"train {TINY} --run run")
    said = cli.refused("train --run run --resume --meta-lr 0.1")
    assert "run cannot be resumed: training.meta_lr was 0.003 and is now 0.1; use the recorded settings" in said
    assert "model.options.hidden was 4 and is now 8" in cli.refused("train --run run --resume --model-options hidden=8")
    assert "training.iterations was 1 and is now 5" in cli.refused("train --run run --resume --iterations 5")
    assert snapshot(run) == before


EVALUATE = {
    "--ways 6": "6 ways were asked for, and Conv4 has 5 outputs; make the model with ways=6, or ask for at most 5.",
    "--episodes 0": "episodes is 0; it must be a whole number of at least 1.",
    "--batch-norm all": "batch_norm is 'all'; it is one of transductive, support, running.",
    "--algorithm-options step=2": "MAML has no option 'step'. Did you mean 'steps'?",
    "--algorithm-options steps=x": "The option steps of MAML is 'x'; it must be a whole number.",
    "--split unseen": "--split cannot be 'unseen', only train, validation, test.",
    "--dataset-options image_size=0": "image_size is 0; glyphs need at least 8 pixels.",
}


def test_evaluate(cli, run):
    for flags, expected in EVALUATE.items():
        assert expected in cli.refused(f"evaluate run --episodes 2 {flags}")
    assert "1 way leaves nothing to tell apart" in cli("evaluate run --episodes 2 --ways 1").err
    assert "argument --algorithm-options: 'rum' is no option" in cli.refused("evaluate --algorithm-options steps=2 rum")


def test_adapt(cli, run):
    write_images(Path("own"), {"small": 2, "large": 2})
    write_images(Path("many"), {f"class{index}": 1 for index in range(6)})
    Path("bare").mkdir()
    Path("own/large/notes.txt").write_text("not an image, and passed over")
    image = "own/small/0.png"
    assert "There is nothing to classify: name images or folders of images after own." in cli.refused("adapt run own")
    assert "There is no image gone.png." in cli.refused("adapt run own gone.png")
    assert "There is no folder gone." in cli.refused(f"adapt run gone {image}")
    assert "The folder bare has no images in class folders" in cli.refused(f"adapt run bare {image}")
    assert "The folder bare has no images." in cli.refused("adapt run own bare")
    assert "6 ways were asked for, and Conv4 has 5 outputs" in cli.refused(f"adapt run many {image}")
    assert f"{image}/l could not be written: " in cli.refused(f"adapt run own {image} --save {image}/l")
    content = Path("own/small/1.png").read_bytes()
    for damaged in (content[:-60], b"\x89PNG", b"", b"text"):
        Path("own/small/1.png").write_bytes(damaged)
        for line in (f"adapt run own {image}", "adapt run own own/small/1.png"):
            assert "The image own/small/1.png cannot be read (" in cli.refused(line)


def test_adapt_where_the_run_knows_no_images(cli, run):
    config = read_config(run)
    config["data"]["transform"] = None
    write_config(run, config)
    forget_digests(run)
    said = cli.refused("adapt run run run")
    assert "run was not trained on image files, so it records no transform for yours; adapt it in Python" in said


def test_a_name_that_the_disk_refuses(cli, run):
    name = "n" * 300
    assert name in cli.refused(f"adapt run {name} run")
    assert "File name too long" in cli.refused(f"train {TINY} --run {name}")
