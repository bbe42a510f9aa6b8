"""What a user gets wrong on the command line: one clear sentence, exit status 2, and nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import GLYPHS, TINY, write_images
from torch import nn

from fewshot_kit import models


class Averager(nn.Module):
    """A network without a linear head."""

    def __init__(self, ways: int = 5) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(ways))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1).mean(1, keepdim=True) * self.scale


@pytest.fixture
def headless(monkeypatch):
    monkeypatch.setitem(models.get.__self__._factories, "averager", Averager)


TRAIN = {
    "--dataset glyphz": "Unknown dataset 'glyphz'. Did you mean 'glyphs'?",
    "--algorithm mamll": "Unknown algorithm 'mamll'. Did you mean 'maml'?",
    "--model conv5": "Unknown model 'conv5'. Did you mean 'conv4'?",
    "--dataset-options drawing=3": "The dataset 'glyphs' has no option 'drawing'. Did you mean 'drawings'?",
    "--algorithm-options step=3": "The algorithm 'maml' has no option 'step'. Did you mean 'steps'?",
    "--model-options widen=3": "The model 'conv4' has no option 'widen'",
    "--model-options hidden": "'hidden' is no option; write name=value, such as lr=0.4",
    "--model-options hidden=[": "the value of 'hidden=[' cannot be read",
    "--model-options hidden=four": "The option hidden of 'conv4' is 'four'; it must be a whole number.",
    "--dataset-options image_size=true": "The option image_size of 'glyphs' is True; it must be a whole number.",
    "--algorithm-options lr=fast": "The option lr of 'maml' is 'fast'; it must be a number.",
    "--algorithm-options lr=-1": "The inner loop's lr is -1; it must be a positive number.",
    "--algorithm-options criterion=mse": "The option criterion of 'maml' is 'mse'; it must be a function",
    "--algorithm-options model=conv4": "The option model of 'maml' is 'conv4'; it must be a module",
    "--algorithm-options batch_norm=all": "batch_norm is 'all'; it is one of transductive, support, running.",
    "--ways 7": "7 ways are more than the 6 classes of the test split of glyphs; lower ways.",
    "--shots 5": "Class 'glyph0001' of the test split of glyphs has 6 examples, too few for 5 shots + 2 queries = 7",
    "--dataset-options classes=3": "glyphs has 3 classes: too few",
    "--model-options channels=3": "Conv4 takes images of 3 channels, the data set gives 1",
    "--model averager --algorithm boil": "Averager has no nn.Linear to take as its head; name the head",
    "--model averager --algorithm anil": "Averager has no nn.Linear to take as its head; name the head",
    "--iterations -1": "iterations is -1; it must be a whole number of at least 0.",
    "--meta-batch -4": "meta_batch is -4; it must be a whole number of at least 1.",
    "--test-episodes 0": "test_episodes is 0; it must be a whole number of at least 1.",
    "--meta-lr nan": "meta_lr is nan; it must be a positive number.",
    "--schedule warm": "Unknown schedule 'warm'; it is one of constant, cosine, warmup_cosine.",
    "--engine turbo": "Unknown engine 'turbo'; it is one of auto, factored, vmap, loop",
    "--device gpu": "'gpu' is no device",
    "--device meta": "The device 'meta' holds no values",
    "--ways five": "argument --ways: 'five' is no whole number. See fewshot-kit train --help.",
    "--meta-lr slow": "argument --meta-lr: 'slow' is no number. See fewshot-kit train --help.",
    "--itterations 5": "There is no flag --itterations. Did you mean '--iterations'? See fewshot-kit train --help.",
    "--iter 5": "There is no flag --iter.",
    "--ways": "argument --ways: expected one argument.",
    "surplus": "'surplus' is one argument too many.",
    "--run a-file": "a-file/config.yaml could not be written: ",
    "--resume": "There is no run folder new; check the path, or train first.",
    "--config gone.yaml": "gone.yaml cannot be read: No such file or directory; give the path of a YAML file.",
}


@pytest.mark.parametrize("flags", TRAIN)
def test_train(cli, headless, flags):
    Path("a-file").touch()
    line = f"train {TINY} --run new {flags}"
    if "averager" in flags:
        line = line.replace("--model-options hidden=4", "")
    assert TRAIN[flags] in cli.refused(line)
    assert not Path("new").exists()  # nothing half-made is left


def test_a_device_that_is_not_there(cli):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "The device 'cuda' is not there: " in cli.refused(f"train {TINY} --run new --device cuda")


CONFIGS = {
    "ways: five\n": "a.yaml has ways: 'five'; it must be a whole number.",
    "iterations: 2.5\n": "a.yaml has iterations: 2.5; it must be a whole number.",
    "dataset: 5\n": "a.yaml has dataset: 5; it must be text.",
    "model_options: hidden=4\n": "a.yaml has model_options: 'hidden=4'; it must be a mapping",
    "model_options: {hidden: four}\n": "The option hidden of 'conv4' is 'four'; it must be a whole number.",
    "way: 5\n": "a.yaml has a setting 'way' that does not exist. Did you mean 'ways'?",
    "5: 5\n": "a.yaml has a setting '5' that does not exist.",
    "shots: 0\n": "shots is 0; it must be a whole number of at least 1.",
    "{": "a.yaml is no valid YAML: while parsing a flow node.",
    "- ways\n": "a.yaml holds no settings; write lines such as 'ways: 5'.",
    "": "a.yaml holds no settings",
    "\x00": "a.yaml is no valid YAML: ",
    "version: 99\n": "a.yaml has version 99 and this fewshot-kit reads up to 1; upgrade it",
    "version: 1\n": "a.yaml is incomplete: it does not say how the algorithm is made",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_config_files(cli, text):
    Path("a.yaml").write_text(text)
    assert CONFIGS[text] in cli.refused(f"train --config a.yaml {GLYPHS} --iterations 1 --run new")


def test_damaged_training_images_are_named(cli):
    write_images(Path("data"), {f"class{index}": 4 for index in range(8)})
    damaged = Path("data/class3/2.png")
    damaged.write_bytes(damaged.read_bytes()[:100])
    line = f"train {TINY} --dataset folder --dataset-options image_size=14 root={{}} --run new"
    line = line.replace(GLYPHS, "")
    assert "The image data/class3/2.png cannot be read (" in cli.refused(line.format("data"))
    assert "There is no folder gone." in cli.refused(line.format("gone"))
    damaged.unlink()
    few = cli.refused(line.format("data") + " --ways 2 --shots 3")
    assert "Class 'class" in few and "has 4 examples, too few for 3 shots + 2 queries = 5" in few
    assert not Path("new").exists()


def test_commands_and_kinds(cli):
    said = cli.refused("evalute run")
    assert "COMMAND cannot be 'evalute', only train, evaluate, adapt, list, cache, doctor. Did you mean 'ev" in said
    assert "the following arguments are required: SUPPORT QUERY." in cli.refused("adapt run")
    assert "kind cannot be 'model', only models, algorithms, datasets. Did you mean 'models'?" in cli.refused(
        "list model"
    )


def test_json_says_what_is_wrong_to_programs_too(cli):
    for line in ("evaluate gone --json", "evaluate --json", "train --ways five --json"):
        said = cli(line)
        assert said.status == 2 and said.err == f"fewshot-kit: {json.loads(said.out)['error']}\n"


def test_a_real_process_says_one_line_and_ends_with_2(tmp_path):
    command = [sys.executable, "-m", "fewshot_kit", "train", *TINY.split(), "--ways", "50"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    expected = "fewshot-kit: 50 ways are more than the 6 classes of the test split of glyphs; lower ways.\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
