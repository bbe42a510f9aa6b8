"""The command line with every registered algorithm: trained, evaluated, adapted to one's images, kept and loaded."""

import json

import pytest
from command_line import TINY, write_images

from fewshot_kit import Learner, algorithms
from fewshot_kit.datasets import Transform, load_image_folder
from fewshot_kit.runs.config import read_config


@pytest.mark.filterwarnings("ignore:.*looks at all queries of a task together, and was asked for one")
@pytest.mark.parametrize("name", algorithms.names())
def test_train_evaluate_adapt_and_load(cli, tmp_path, name):
    run, images = tmp_path / "run", tmp_path / "mine"
    printed = cli.good(f"train {TINY} --algorithm {name} --ways 3 --shots 1 --run {run}")
    assert "Unseen classes of glyphs:\n  " in printed and " +- " in printed and "(4 episodes, 3-way 1-shot" in printed
    tested = json.loads(cli.good(f"evaluate {run} --episodes 4 --json"))
    assert tested["accuracy"] == json.loads((run / "results.json").read_text())["test"][0]["accuracy"]
    write_images(images, {"cat": 2, "dog": 2})
    said = json.loads(cli.good(f"adapt {run} {images} {images / 'cat' / '0.png'} --save {tmp_path / 'kept'} --json"))
    [prediction] = said["predictions"]
    learner = Learner.load(tmp_path / "kept")
    assert learner.classes == said["classes"] == ["cat", "dog"]
    x, labels, _ = load_image_folder(images, Transform(**read_config(run)["data"]["transform"]))
    probabilities = dict(zip(learner.classes, learner.predict_proba(x[:1])[0].tolist(), strict=True))
    assert labels[0] == "cat"
    assert probabilities[prediction["label"]] == pytest.approx(prediction["probability"], abs=1e-4)
