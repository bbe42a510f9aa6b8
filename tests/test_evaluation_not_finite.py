"""Tasks that diverge: counted and said, in evaluations and in the validations of a run."""

from __future__ import annotations

import json
import math

import pytest
import torch
from small_runs import SMALL, train
from torch import nn
from toy import Centroids, Waves, noisy_net, points, world

from fewshot_kit.algorithms import MAML, Algorithm
from fewshot_kit.datasets import Data
from fewshot_kit.evaluation import accuracy, evaluate, half_width, mean_of
from fewshot_kit.runs.plots import curve
from fewshot_kit.training.outer_loop import meta_train

TASK = {"ways": 3, "shots": 2, "queries": 4}


class Diverged(Centroids):
    """Gives NaN for all queries of every second task (the loop runs one after another)."""

    tasks = 0

    def predict(self, state, x):
        self.tasks += 1
        scores = super().predict(state, x)
        return scores * math.nan if self.tasks % 2 else scores


def test_episodes_are_counted_and_count_as_wrong():
    found = evaluate(Diverged(noisy_net()), points(), **TASK, episodes=5, engine="loop")
    whole = evaluate(Centroids(noisy_net()), points(), **TASK, episodes=5, engine="loop")
    assert found.not_finite == found.to_dict()["not_finite"] == 3 and whole.not_finite == 0
    assert found.per_episode == [0.0, whole.per_episode[1], 0.0, whole.per_episode[3], 0.0]
    assert str(found).endswith("; 3 of the episodes diverged, to scores that are not finite, which count as wrong")
    assert str(whole).endswith("train)")
    assert found.to_dict()["loss"] is None


def test_a_class_that_cannot_be_is_no_fault():
    """-inf is a score, of a class without a chance; NaN, inf and -inf alone are none."""
    inf = math.inf
    scores = torch.tensor([[2.0, -inf], [0.0, math.nan], [inf, 0.0], [-inf, -inf]])
    assert accuracy(scores, torch.tensor([0, 1, 0, 0]), 2) == 0.25

    class Sure(Algorithm):
        def adapt(self, x, y):
            return None

        def predict(self, state, x):
            right = torch.arange(3).repeat_interleave(4)
            return nn.functional.one_hot(right, 3).double().log()

    found = evaluate(Sure(nn.Identity()), points(), **TASK, episodes=2, engine="loop")
    assert found.accuracy == 1.0 and found.not_finite == 0


def steep():
    return MAML(nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1)), lr=1e30, steps=3)


def test_regression_that_diverges():
    found = evaluate(steep(), Waves(), ways=1, shots=3, queries=5, episodes=4)
    assert found.not_finite == 4 and not math.isfinite(found.mse) and math.isnan(found.interval)
    plain = found.to_dict()
    assert (plain["mse"], plain["interval"], plain["per_episode"]) == (None, None, [None] * 4)
    json.dumps(plain, allow_nan=False)
    assert str(found).endswith("; 4 of the episodes diverged, to scores that are not finite")


def test_means_of_anything():
    assert mean_of([math.inf, -math.inf]) != mean_of([math.inf, -math.inf])  # NaN
    assert mean_of([1e308] * 10) == 1e308 and mean_of([math.inf, 1.0]) == math.inf
    assert half_width([1e200, 3e200]) > 1e200


@pytest.mark.parametrize("spoilt", [1, 2])
def test_a_validation_that_diverges_kills_no_run(tmp_path, capsys, spoilt):
    """The first of two, or the last: the other one is the best."""

    class Sometimes(MAML):
        validations = 0

        def predict(self, state, x):
            scores = super().predict(state, x)
            return scores if self.training or self.iteration != spoilt else scores * math.nan

        def anneal(self, progress):
            self.iteration = round(2 * progress) + 1

    data = Data("waves", Waves(), Waves(), Waves(), {})
    network = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))
    settings = SMALL | {"ways": 1, "validate_every": 1, "iterations": 2, "progress": True}
    result = meta_train(Sometimes(network, lr=0.01), data, run=tmp_path, **settings)
    assert result.best["iteration"] == 3 - spoilt and math.isfinite(result.best["mse"])
    assert [line.get("validation_not_finite") for line in result.history] == [5, None][:: 1 if spoilt == 1 else -1]
    assert f"validation at iteration {spoilt}: nan +- nan mean squared error" in capsys.readouterr().err
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_classes_that_diverge_in_validation(tmp_path):
    class Broken(Centroids):
        def predict(self, state, x):
            scores = super().predict(state, x)
            return scores if self.training else scores * math.nan

    result = train(Broken(noisy_net()), world(), iterations=8, run=tmp_path)
    assert [line["validation_not_finite"] for line in result.history[3::4]] == [5, 5]
    assert (result.best["iteration"], result.best["accuracy"]) == (4, 0.0) and math.isnan(result.best["loss"])


def test_a_curve_of_what_is_not_finite(tmp_path):
    nan, inf = math.nan, math.inf
    lines = [
        {"iteration": 1, "loss": 1.0, "validation_mse": inf, "validation_loss": inf, "validation_interval": nan},
        {"iteration": 2, "loss": None, "skipped": 1},
        {"iteration": 3, "loss": 2.0, "validation_mse": 1.0, "validation_loss": 1.0, "validation_interval": nan},
    ]
    curve(lines, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
