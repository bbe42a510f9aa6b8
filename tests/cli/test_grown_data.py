"""A folder of images that got more classes after a run: no class that was trained on is tested on in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import BUDGET, write_images
from small_runs import KillAt, Killed

from fewshot_kit.experiments import running as experiment
from fewshot_kit.runs.config import read_config

pytestmark = pytest.mark.filterwarnings("always::UserWarning")  # printed as a sentence, as a user sees them
PHOTOS = "--dataset folder --dataset-options root=photos image_size=14 channels=1 --ways 2 --model-options hidden=4"


@pytest.fixture
def photos(cli: Any) -> Path:
    write_images(Path("photos"), {f"class{number:02d}": 5 for number in range(8)})
    return Path("photos")


def grow(photos: Path) -> None:
    """More classes, whose names come before and between those that were there."""
    write_images(photos, {f"class{number:02d}a": 5 for number in range(0, 8, 2)} | {"another": 5})


def asked(cli: Any, line: str) -> tuple[dict[str, Any], str]:
    said = cli(f"{line} --episodes 20 --json")
    assert said.status == 0, said.err
    return json.loads(said.out), said.err


def test_evaluate_asks_of_the_classes_that_were_left_out_of_training(cli: Any, photos: Path) -> None:
    cli.good(f"train {PHOTOS} {BUDGET} --run run")
    before = [asked(cli, f"evaluate run --split {split}") for split in ("test", "train")]
    grow(photos)
    for split, (found, said) in zip(("test", "train"), before, strict=True):
        assert said == ""
        after, said = asked(cli, f"evaluate run --split {split}")
        assert after == found
        assert said == (
            "fewshot-kit: folder photos has 5 classes that run does not know ('another', 'class00a', 'class02a', ...): "
            "they are left out, and its classes are split as they were.\n"
        )
    trained = set(read_config("run")["data"]["classes"]["train"])
    anew = experiment.datasets.create("folder", root="photos", image_size=14, channels=1)
    assert trained & set(anew.test.classes)  # the defect: what a new split would have tested on
    _, said = asked(cli, f"evaluate run {PHOTOS.partition(' --ways')[0]}")
    assert said.startswith("fewshot-kit: run was trained on ") and "classes of the test split of folder photos" in said
    cli.good(f"train {PHOTOS} {BUDGET} --run next --init run --quiet")
    assert "run was trained on " in cli(f"train {PHOTOS} {BUDGET} --run third --init run").err


def test_a_run_goes_on_with_its_classes(cli: Any, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.good(f"train {PHOTOS} {BUDGET} --iterations 4 --run whole")
    usual = experiment.train_by
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "train_by", lambda *a, hooks, **k: usual(*a, hooks=[*hooks, KillAt(3)], **k))
        with pytest.raises(Killed):
            cli(f"train {PHOTOS} {BUDGET} --iterations 4 --run run")
    grow(photos)
    said = cli("train --resume --run run")
    assert said.status == 0 and "5 classes that run does not know" in said.err
    assert Path("run/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()
    results = [json.loads(Path(run, "results.json").read_text())["test"] for run in ("run", "whole")]
    assert results[0] == results[1]


def test_a_class_that_is_gone_is_named(cli: Any, photos: Path) -> None:
    cli.good(f"train {PHOTOS} {BUDGET} --run run")
    gone = read_config("run")["data"]["classes"]["test"][0]
    shutil.rmtree(photos / gone)
    for line in ("evaluate run --episodes 2", "train --resume --run run"):
        assert cli.refused(line) == (
            f"Class '{gone}' of the test split of run is not in folder photos any more (1 such classes); bring it "
            "back, or name another data set by --dataset."
        )
