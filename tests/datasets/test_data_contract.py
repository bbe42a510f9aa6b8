"""A split of anybody's own is trained and evaluated on, by what the contract says and nothing else."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch
from small_runs import SMALL, centroids, forget_digests, maml, same, train
from torch import nn
from toy import Waves, noisy_net, points, world

from fewshot_kit import algorithms, datasets, evaluate
from fewshot_kit.algorithms import MAML
from fewshot_kit.datasets import Data, Split
from fewshot_kit.datasets.splits.contract import LabelledSplit, TaskSplit, with_classes
from fewshot_kit.errors import InputError
from fewshot_kit.runs.config import read_config, write_config
from fewshot_kit.seeds import default_draws


class Tasks:
    """Forwards what the contract of a split of tasks names; of all else a split has, nothing is there."""

    named = ("name", "example_shape", "check", "episodes")

    def __init__(self, split: Split) -> None:
        for name in self.named:
            setattr(self, name, getattr(split, name))


class Labelled(Tasks):
    named = (*Tasks.named, "classes", "labelled")

    def __init__(self, split: Split) -> None:
        super().__init__(split)
        self.split = split

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        return self.split[index]


def made_of(kind: type[Tasks]) -> SimpleNamespace:
    """The small world as a data set that is no `Data`, of splits that are no `Split`."""
    data = world()
    return SimpleNamespace(train=kind(data.train), validation=kind(data.validation), test=kind(data.test))


@pytest.mark.parametrize("method", ["check", "episodes", "labelled"])
def test_the_kits_splits_take_what_the_contract_says(method):
    contracts = [(LabelledSplit, Split)] + [(TaskSplit, datasets.sinusoid.Sines)] * (method != "labelled")
    for contract, kind in contracts:
        asked, taken = (inspect.signature(getattr(each, method)).parameters for each in (contract, kind))
        assert list(taken)[: len(asked)] == list(asked)
        assert all(taken[name].default == value.default for name, value in asked.items())


def test_who_has_classes():
    assert isinstance(points(), LabelledSplit) and isinstance(Labelled(points()), LabelledSplit)
    assert with_classes(points(), "This").classes == [f"train{number}" for number in range(8)]
    for split in (Tasks(points()), Waves(), datasets.create("sinusoid").train):
        with pytest.raises(InputError, match=f"This needs labelled examples, and {split.name} has no classes"):
            with_classes(split, "This")


@pytest.mark.parametrize("make", [centroids, maml])
def test_tasks_are_all_that_training_and_evaluation_need(make, tmp_path):
    """The same weights and figures as on the kit's own splits, which draw the episodes of a batch together."""
    own, plain = make(), make()
    found, expected = train(own, made_of(Tasks), iterations=5, run=tmp_path), train(plain, iterations=5)
    assert same(own, plain) and found.history == expected.history
    task = {"ways": 3, "shots": 2, "queries": 4, "episodes": 20}
    assert evaluate(own, Tasks(points()), **task) == evaluate(plain, points(), **task)
    described = read_config(tmp_path)["data"]
    assert described == {"class": "types.SimpleNamespace", "example_shape": [6], "transform": None}


def test_labelled_examples_are_all_that_learning_classes_needs(tmp_path):
    made = []
    for _ in range(2):
        with default_draws(0, "classifier"):
            made.append(algorithms.create("baseline", model=noisy_net(), classes=8))
    for algorithm, data in zip(made, (made_of(Labelled), world()), strict=True):
        train(algorithm, data, iterations=3, run=tmp_path / str(type(data).__name__))
    assert same(*made)
    classes = [read_config(tmp_path / name)["data"]["classes"] for name in ("SimpleNamespace", "Data")]
    assert classes[0] == classes[1] and classes[0]["test"] == [f"test{number}" for number in range(8)]
    heads = [algorithms.create("simple_shot", model=noisy_net()) for _ in range(2)]
    for algorithm, data in zip(heads, (made_of(Labelled), world()), strict=True):
        train(algorithm, data, iterations=0)
    assert same(*heads) and heads[0].base_mean.numel()


@pytest.mark.parametrize(
    "name, options", [("baseline", {"classes": 8}), ("simple_shot", {}), ("boil", {"neutral_head": True})]
)
def test_what_needs_classes_says_where_there_are_none(name, options):
    algorithm = algorithms.create(name, model=noisy_net(), **options)
    with pytest.raises(InputError, match="needs labelled examples, and train has no classes; take another"):
        train(algorithm, made_of(Tasks), iterations=0 if name == "simple_shot" else 1)


def test_a_run_that_names_a_class_where_there_is_none_resumes(tmp_path):
    """Runs of earlier versions say that sine waves are of the class `sine`."""

    def waves(**settings):
        algorithm = MAML(nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1)), lr=0.01)
        data = datasets.create("sinusoid")
        return train(algorithm, data, **SMALL | {"ways": 1, "seed": 3, "run": tmp_path, **settings})

    waves(iterations=2)
    config = read_config(tmp_path)
    assert "classes" not in config["data"]
    config["data"]["classes"] = {split: ["sine"] for split in ("train", "validation", "test")}
    write_config(tmp_path, config)
    forget_digests(tmp_path)
    assert waves(iterations=4, resume=True).iterations == 4
    with pytest.raises(InputError, match="cannot be resumed: training.seed was 3 and is now 4"):
        waves(iterations=4, resume=True, seed=4)


def test_classes_that_differ_still_stop_a_run(tmp_path):
    train(centroids(), iterations=2, run=tmp_path)
    others = Data("points", points(name="other"), points(seed=1), points(seed=2), {})
    with pytest.raises(InputError, match="cannot be resumed: data.classes.train was .train0, train1, ... 8 in all"):
        train(centroids(), others, iterations=4, run=tmp_path, resume=True)


def test_sine_waves_pretend_to_nothing():
    train = datasets.create("sinusoid").train
    assert not any(hasattr(train, name) for name in ("classes", "transform", "channels", "image_size", "x", "labelled"))
    assert datasets.create("sinusoid").transform is None and train.example_shape == torch.Size([1])
