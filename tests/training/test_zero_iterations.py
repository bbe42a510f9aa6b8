"""Nothing to train: the algorithm as it is made goes into a run folder. And `begin`, which comes before everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_line import GLYPHS, write_images
from small_runs import KillAt, Killed, centroids, lines, maml, same, train
from torch import nn
from toy import Centroids, noisy_net, points, world

from fewshot_kit import evaluate, load
from fewshot_kit.algorithms import SimpleShot
from fewshot_kit.datasets import Data
from fewshot_kit.errors import InputError
from fewshot_kit.runs.checkpoints import state_path
from fewshot_kit.runs.config import read_config
from fewshot_kit.runs.storage import read


class Told(Centroids):
    """Writes down when it is told the training split."""

    def __init__(self) -> None:
        super().__init__(noisy_net())
        self.told: list[tuple[str, bool]] = []

    def begin(self, split, iterations):
        self.told.append((split.name, iterations, self.training))


class Meaning(SimpleShot):
    """Takes the base mean in any case."""

    def begin(self, split, iterations):
        super().begin(split, 0)


def frozen() -> SimpleShot:
    return SimpleShot(noisy_net().requires_grad_(False))


def test_the_algorithm_as_it_is_made_goes_into_a_run_folder(tmp_path):
    algorithm = frozen()
    before = {name: value.clone() for name, value in algorithm.model.state_dict().items()}
    result = train(algorithm, iterations=0, run=tmp_path)
    assert (result.iterations, result.weights, result.best, result.history) == (0, "last", None, [])
    assert all(torch.equal(before[name], value) for name, value in algorithm.model.state_dict().items())
    names = ["checkpoints", "config.yaml", "metrics.jsonl", "results.json"]  # and no curve of nothing
    assert sorted(path.name for path in tmp_path.iterdir()) == names and lines(tmp_path) == b""
    summary = {"iterations": 0, "weights": "last", "validation": None}
    assert json.loads((tmp_path / "results.json").read_text())["training"] == summary

    loaded = load(tmp_path, algorithm=frozen())
    assert same(loaded, algorithm) and loaded.base_mean.shape == (16,)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    task = {"ways": 3, "shots": 2, "queries": 4, "episodes": 20}
    found = [evaluate(one, world().test, **task).per_episode for one in (algorithm, loaded)]
    assert found[0] == found[1]
    again = frozen()
    train(again, iterations=0, run=tmp_path, resume=True)
    assert same(again, algorithm)
    with pytest.raises(InputError, match=r"nothing to train: .*; ask for 0 iterations to keep it as it is"):
        train(frozen(), iterations=1, run=tmp_path, resume=True)


def test_a_head_on_features_without_any_network(tmp_path):
    algorithm = SimpleShot(nn.Identity())
    train(algorithm, iterations=0, run=tmp_path)
    assert torch.allclose(algorithm.base_mean, world().train.x.mean(0), atol=1e-6)
    loaded = load(tmp_path, algorithm=SimpleShot(nn.Identity()))
    assert torch.equal(loaded.base_mean, algorithm.base_mean)
    assert evaluate(loaded, world().test, ways=3, queries=4, episodes=20).accuracy > 0.5  # chance is 0.33


def test_no_validation_is_needed():
    few = Data("points", points(), points(2, name="validation"), points(name="test"), {})
    assert train(maml(), few, iterations=0).iterations == 0
    with pytest.raises(InputError, match="3 ways are more than the 2 classes of validation"):
        train(maml(), few, iterations=1)


def test_begin_comes_once_and_not_again_on_resuming(tmp_path):
    for iterations in (0, 3):
        algorithm = Told()
        train(algorithm, iterations=iterations)
        assert algorithm.told == [("train", iterations, False)] and algorithm.training
    with pytest.raises(Killed):
        train(Told(), iterations=3, run=tmp_path, hooks=[KillAt(2)])
    resumed = Told()
    train(resumed, iterations=3, run=tmp_path, resume=True)
    assert resumed.told == []
    state_path(tmp_path).unlink()  # as if it had been killed before its first checkpoint
    train(resumed, iterations=3, run=tmp_path, resume=True)
    assert resumed.told == [("train", 3, False)]


@pytest.mark.parametrize("settings", [{"engine": "loop", "workers": 2}, {"engine": "vmap"}, {"engine": "auto"}])
def test_what_begin_found_is_trained_with_and_kept(tmp_path, settings):
    algorithm = Meaning(noisy_net())
    train(algorithm, iterations=5, run=tmp_path, **settings)
    mean = algorithm.base_mean.clone()
    resumed = Meaning(noisy_net())
    train(resumed, iterations=6, run=tmp_path, resume=True, engine="auto")
    assert mean.shape == (16,) and mean.any() and torch.equal(resumed.base_mean, mean)
    kept = read(state_path(tmp_path))[0]
    assert any(torch.equal(value, mean) for name, value in kept.items() if name.endswith("base_mean"))


def test_a_base_mean_is_forgotten_where_the_features_move(tmp_path):
    first = SimpleShot(noisy_net())
    train(first, iterations=0, run=tmp_path)
    assert first.base_mean.any()
    again = SimpleShot(noisy_net())
    train(again, iterations=2, run=tmp_path, resume=True)
    assert not again.base_mean.numel()


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_iterations_can_follow(tmp_path, schedule):
    whole, parts = centroids(), centroids()
    train(whole, iterations=4, schedule=schedule, run=tmp_path / "whole")
    train(parts, iterations=0, schedule=schedule, run=tmp_path / "parts")
    again = centroids()
    train(again, iterations=4, schedule=schedule, run=tmp_path / "parts", resume=True)
    assert same(again, whole) and lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert read_config(tmp_path / "parts")["training"]["iterations"] == 4


def test_from_the_command_line(cli):
    options = f"{GLYPHS} --algorithm simple_shot --queries 2 --test-queries 2 --test-episodes 4 --iterations 0"
    out = cli.good(f"train {options} --run zero")
    assert "% (4 episodes, 5-way 1-shot" in out and out.endswith("zero\nNothing was trained: 0 iterations.\n")
    found = json.loads(cli.good("train --run zero --resume --json"))
    assert found["iterations"] == 0 and found["curve"] is None
    tested = json.loads(cli.good("evaluate zero --episodes 4 --json"))
    assert tested == found["test"][0]
    write_images(Path("own"), {"small": 2, "large": 2})
    assert len(json.loads(cli.good("adapt zero own own --json"))["predictions"]) == 4
