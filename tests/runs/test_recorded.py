"""What a run or a learner recorded, altered by somebody who made the checksums right: refused in a sentence."""

from __future__ import annotations

import pytest
import torch
import yaml
from small_runs import maml, train

from fewshot_kit import Learner, adapt, algorithms, models
from fewshot_kit.datasets import Transform
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import from_run
from fewshot_kit.runs.checkpoints import load, read_results, record_results, save, state_path
from fewshot_kit.runs.config import plain
from fewshot_kit.runs.recorded import from_recorded
from fewshot_kit.runs.storage import read, write


def put(node, place, value):
    *inner, last = place
    for key in inner:
        node = node[key]
    node[last] = value


CONFIGS = [
    ("model.options", None, "is incomplete: it does not say how the model is made"),
    ("model.options", {5: 1}, "is incomplete: it does not say how the model is made"),
    ("model.name", 5, "is incomplete: it does not say how the model is made"),
    ("model.options.hidden", "four", r"cannot be used: .*hidden.*'four'|cannot be made with its recorded options"),
    ("model.options.hidden", [], r"cannot be used: .*hidden|cannot be made with its recorded options"),
    ("algorithm.class", None, "is incomplete: it does not say how the algorithm is made"),
    ("algorithm.options.steps", "x", "cannot be used: "),
    ("frozen", 5, "config.yaml has frozen: 5; restore it from a copy"),
    ("frozen", [None], r"config.yaml has frozen: \[None\]; restore"),
    ("batch_norm", [], r"config.yaml has batch_norm: \[\]; restore"),
    ("training", 5, "config.yaml has training: 5; restore"),
    ("training", {"test_options": None}, "config.yaml has training.test_options: None; restore"),
    ("data", {"class": "x", "transform": 5}, "config.yaml has data.transform: 5; restore"),
    ("data", {"class": "x", "classes": {"train": 5}}, r"config.yaml has data.classes: \{'train': 5\}; restore"),
    ("data", {"class": "x", "example_shape": ["a"]}, r"config.yaml has data.example_shape: \['a'\]; restore"),
    ("data", 5, "is incomplete: it does not say how the data is made"),
]


@pytest.fixture
def folder(tmp_path):
    model = models.create("conv4", ways=2, hidden=4, image_size=14, seed=0)
    return save(algorithms.create("maml", model=model, steps=1), tmp_path / "run", ways=2)


@pytest.mark.parametrize(("place", "value", "said"), CONFIGS)
def test_config_files(folder, place, value, said):
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    put(config, place.split("."), value)
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match=said):
        load(folder, accept_edited=True)


def test_settings_of_a_run(folder):
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**config, "training": {"ways": "five"}}))
    with pytest.raises(InputError, match="has ways: 'five'; it must be a whole number"):
        from_run(folder, kinds=("model",), accept_edited=True)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (5, "x has 5 in place of image_size and so on; restore it from a copy"),
        ({"image_size": "a"}, "x has image_size: 'a'; it must be a whole number"),
        ({"size": 5}, "x has a setting 'size' that does not exist"),
        ({"channels": 1}, "x lacks image_size; restore it from a copy"),
        ({"image_size": 4, "mean": 5}, "x has mean: 5; it must be a list"),
        ({"image_size": 4, "mean": ["a"], "deviation": [1]}, r"mean is \['a'\]; it must hold numbers"),
        ({"image_size": 4, "mean": [float("nan")], "deviation": [1]}, r"mean is \[nan\]; it must hold numbers"),
        ({"image_size": 10**9}, "image_size is 1000000000; it must be 1 to 10,000 pixels"),
    ],
)
def test_transforms(values, said):
    with pytest.raises(InputError, match=said):
        from_recorded(Transform, values, "x")


def test_a_transform_comes_back():
    whole = Transform(8, 3, mean=(0.5, 0.5, 0.5), deviation=(1, 2, 3))
    assert from_recorded(Transform, plain(vars(whole)), "x") == whole


LEARNERS = [
    (("structure", "dict", 1, 1), {"value": 1}, "The learner of .* fails .*; give examples like those"),
    (("structure", "dict", 1, 1, "dict", 0, 1), {"list": []}, "The learner of .* fails "),
    (("kept", "classes"), [], "is damaged: it has no list of classes"),
    (("kept", "classes"), [None], "is damaged: it has no list of classes"),
    (("kept", "classes"), 5, "is damaged: it has no list of classes"),
    (("kept", "recipes"), None, "does not say how its algorithm is made; restore"),
    (("kept", "recipes"), {}, "is incomplete: it does not say how the algorithm is made"),
    (("kept", "transform"), 5, "has 5 in place of image_size"),
    (("kept", "expected"), {"low": 0}, "lacks accuracy"),
]


@pytest.mark.parametrize(("place", "value", "said"), LEARNERS)
def test_learners(tmp_path, place, value, said):
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    learner = adapt(algorithms.create("protonet", model=torch.nn.Linear(6, 3)), (x, ["a", "b", "a", "b"]))
    file = learner.save(tmp_path / "x.safetensors")
    tensors, meta = read(file)
    put(meta, place, value)
    write(file, tensors, meta)
    with pytest.raises(InputError, match=said):
        Learner.load(file, algorithm=algorithms.create("protonet", model=torch.nn.Linear(6, 3))).predict(x)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("kept",), None),
        (("kept", "iteration"), 10**30),
        (("kept", "iteration"), None),
        (("kept", "best"), 5),
        (("structure", "dict", 1, 1), {"value": 1}),
        (("structure", "dict", 1, 1, "dict", 0, 1), {"list": []}),
        (("structure", "dict", 1, 1, "dict", 1, 1), {"dict": []}),
    ],
)
def test_where_a_run_stands(tmp_path, place, value):
    train(maml(), run=tmp_path, iterations=2)
    tensors, meta = read(state_path(tmp_path))
    put(meta, place, value)
    write(state_path(tmp_path), tensors, meta)
    with pytest.raises(InputError, match=r"last.safetensors is damaged: it is no checkpoint of this run"):
        train(maml(), run=tmp_path, iterations=2, resume=True)


def test_weights_of_another_kind_of_number(tmp_path):
    save(maml(), tmp_path)
    tensors, meta = read(state_path(tmp_path))
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    write(state_path(tmp_path), {**tensors, name: tensors[name].long()}, meta)
    with pytest.raises(InputError, match=r"is of type torch.int64 in the file and torch.float32 in the model"):
        load(tmp_path, algorithm=maml())


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b"[" * 100_000, b"5"])
def test_results_that_are_none(tmp_path, content):
    (tmp_path / "results.json").write_bytes(content)
    assert read_results(tmp_path) == {}
    record_results(tmp_path, {"training": {}})
    assert read_results(tmp_path) == {"training": {}}


def test_text_that_no_file_can_hold():
    assert plain({"root": "naïve 猫"}) == {"root": "naïve 猫"}
    with pytest.raises(InputError, match=r"'caf\\udce9' holds bytes that are no UTF-8, so that no run can record it"):
        plain({"root": "caf\udce9"})
