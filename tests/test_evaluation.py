from __future__ import annotations

import copy
import math
import sys

import pytest
import torch
from torch import nn
from toy import Centroids, Waves, noisy_net, points

from fewshot_kit import engines
from fewshot_kit.algorithms import MAML, Algorithm
from fewshot_kit.algorithms.bases.task_check import check_task
from fewshot_kit.errors import InputError
from fewshot_kit.evaluation import BATCH, accuracy, evaluate, half_width
from fewshot_kit.seeds import default_draws, stream

TASK = {"ways": 3, "shots": 2, "queries": 4}


def test_interval_by_hand():
    # mean 0.5, squared deviations 0.04 + 0 + 0.04 over n - 1 = 2: s = 0.2; 1.96 * 0.2 / sqrt(3)
    assert half_width([0.3, 0.5, 0.7]) == pytest.approx(0.226321, abs=1e-6)
    assert math.isnan(half_width([0.5]))
    assert math.isnan(half_width([0.5, math.inf, 0.7]))


def test_accuracy_uses_the_first_columns():
    scores = torch.tensor([[[1.0, 0.0, 9.0], [0.0, 1.0, 9.0], [2.0, 1.0, 0.0], [0.0, 3.0, 0.0]]])
    assert accuracy(scores, torch.tensor([[0, 1, 1, 1]]), ways=2).tolist() == [0.75]
    with pytest.raises(InputError, match="4 ways were asked for, and the model gives 3 scores"):
        accuracy(scores, torch.tensor([[0, 1, 1, 1]]), ways=4)


class Scripted(Algorithm):
    """Right on the first k queries of its k-th task, and wrong on the rest: accuracies that are known."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.tasks = 0

    def adapt(self, x, y):
        self.tasks += 1
        return self.tasks

    def predict(self, state, x):
        right = torch.arange(3).repeat_interleave(4)
        guessed = torch.where(torch.arange(12) < state, right, (right + 1) % 3)
        return nn.functional.one_hot(guessed, 3).float()


def test_mean_and_interval_over_episodes():
    found = evaluate(Scripted(), points(), **TASK, episodes=4, engine="loop")
    assert found.per_episode == pytest.approx([1 / 12, 2 / 12, 3 / 12, 4 / 12])
    assert found.accuracy == pytest.approx(2.5 / 12)
    deviation = math.sqrt((1.5**2 + 0.5**2 + 0.5**2 + 1.5**2) / 3) / 12
    assert found.interval == pytest.approx(1.96 * deviation / 2)
    assert str(found) == "20.83 +- 10.54 % (4 episodes, 3-way 2-shot, train)"
    assert found.to_dict()["accuracy"] == found.accuracy and "measure" not in found.to_dict()


@pytest.mark.parametrize("make", [Centroids, MAML])
def test_nothing_is_changed(make):
    algorithm = make(noisy_net())
    algorithm.model[1].eval()
    before = copy.deepcopy(algorithm.state_dict())
    torch.rand(1)
    rng = torch.get_rng_state()
    evaluate(algorithm, points(), **TASK, episodes=3)
    assert all(torch.equal(before[name], tensor) for name, tensor in algorithm.state_dict().items())
    assert [m.training for m in algorithm.model] == [True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(p.requires_grad and p.grad is None for p in algorithm.parameters())


def test_episodes_depend_on_seed_and_number_alone():
    algorithm = Centroids(noisy_net())
    few, many = (evaluate(algorithm, points(), **TASK, episodes=n) for n in (3, 9))
    assert many.per_episode[:3] == few.per_episode
    assert evaluate(algorithm, points(), **TASK, episodes=9, seed=1).per_episode != many.per_episode


class Noisy(Centroids):
    def predict(self, state, x):
        return super().predict(state, x) + torch.randn(())


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_engines_measure_the_same(engine):
    algorithm = MAML(noisy_net().double(), lr=0.1)
    found = evaluate(algorithm, points(), **TASK, episodes=BATCH + 3, engine=engine)
    one = evaluate(algorithm, points(), **TASK, episodes=BATCH + 3, engine="reference")
    assert found.per_episode == one.per_episode and found.loss == pytest.approx(one.loss, rel=1e-9)


def test_memory_does_not_grow_with_the_episodes():
    """Never more than one batch of episodes at a time."""
    sizes = []

    class Watching(engines.Choice):
        def predict(self, algorithm, episodes):
            sizes.append(len(episodes.support_x))
            return super().predict(algorithm, episodes)

    evaluate(MAML(noisy_net(), lr=0.1), points(), **TASK, episodes=2 * BATCH + 1, engine=Watching("vmap"))
    assert sizes == [BATCH, BATCH, 1]


def test_draws_of_an_algorithm_are_fixed_too():
    algorithm = Noisy(noisy_net())
    assert evaluate(algorithm, points(), **TASK, episodes=3) == evaluate(algorithm, points(), **TASK, episodes=3)


def test_a_policy_for_one_evaluation():
    algorithm = MAML(noisy_net(), lr=0.1)
    results = {p: evaluate(algorithm, points(), **TASK, episodes=5, batch_norm=p) for p in (None, "support", "running")}
    assert [r.batch_norm for r in results.values()] == ["transductive", "support", "running"]
    assert len({r.loss for r in results.values()}) == 3
    assert algorithm.batch_norm == "transductive"
    assert "support batch norm" in str(results["support"])
    with pytest.raises(InputError, match="batch_norm is 'none'"):
        evaluate(algorithm, points(), **TASK, batch_norm="none")
    with pytest.raises(InputError, match="Centroids has no batch-norm policy"):
        evaluate(Centroids(noisy_net()), points(), **TASK, batch_norm="support")


def test_fewer_ways_than_outputs_and_the_other_way_round():
    algorithm = MAML(noisy_net(ways=5), lr=0.1)
    assert evaluate(algorithm, points(), **TASK, episodes=5).accuracy > 0.33
    with pytest.raises(InputError, match="6 ways were asked for, and Sequential has 5 outputs"):
        evaluate(algorithm, points(), ways=6, shots=1, queries=1)


def test_regression_is_measured_by_its_squared_error():
    class Zero(Algorithm):
        def adapt(self, x, y):
            return None

        def predict(self, state, x):
            return torch.zeros(len(x), 1)

    found = evaluate(Zero(nn.Identity()), Waves(), ways=1, shots=3, queries=50, episodes=20)
    (drawn,) = [Waves().episodes(1, 3, 50, 1, generator=stream(0, "evaluation", 7))]
    assert found.per_episode[7] == pytest.approx(float(drawn.query_y.square().mean()), rel=1e-5)
    assert found.accuracy is None and found.mse == found.mean == found.to_dict()["mse"]
    assert "mean squared error (20 episodes, 3-shot" in str(found)
    assert found.better_than(found.mean + 1) and found.better_than(math.nan)


def test_float64_models():
    assert evaluate(MAML(noisy_net().double(), lr=0.1), points(), **TASK, episodes=2).accuracy > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"ways": 9}, "9 ways are more than the 8 classes"),
        ({"episodes": 0}, "episodes is 0"),
        ({"queries": 11}, "too few for"),
        ({"device": "cuda:77"}, "'cuda:77' is not there"),
    ],
)
def test_bad_input(change, said):
    with pytest.raises(InputError, match=said):
        evaluate(Centroids(noisy_net()), points(), **{**TASK, **change})


def test_a_bar_on_request_where_there_is_a_terminal(capsys, monkeypatch):
    for progress, tty in ((True, True), (True, False), (False, True)):
        monkeypatch.setattr(sys.stderr, "isatty", lambda tty=tty: tty)
        evaluate(Centroids(noisy_net()), points(), **TASK, episodes=2, progress=progress)
        assert ("evaluate train" in capsys.readouterr().err) == (progress and tty)


def images(channels, size=8):
    return torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))


def test_check_task_names_channels_and_shapes():
    colour = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(144, 5))
    algorithm = MAML(colour)
    before, rng = copy.deepcopy(algorithm.state_dict()), torch.get_rng_state()
    y = torch.zeros(1, dtype=torch.int64)
    check_task(algorithm, images(3), y, ways=5)
    assert all(torch.equal(before[name], tensor) for name, tensor in algorithm.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng) and all(m.training for m in algorithm.modules())
    with pytest.raises(
        InputError, match=r"takes images of 3 channels, the data set gives 1 \(an example has shape \[1, "
    ):
        check_task(algorithm, images(1), y, ways=5)
    with pytest.raises(InputError, match=r"does not take examples of shape \[3, 9, 9\].*another image size"):
        check_task(algorithm, images(3, 9), y, ways=5)


def test_streams_are_their_own():
    drawn = {
        float(torch.rand(1, generator=stream(*key))) for key in [(0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0)]
    }
    assert len(drawn) == 4
    # The documented derivation, by hand: sha256("3/x/4") starts with the 8 bytes below.
    assert stream(3, "x", 4).initial_seed() == int(SHA_OF_3_X_4, 16) >> 1
    with default_draws(3, "x", 4):
        assert torch.equal(torch.rand(5), torch.rand(5, generator=stream(3, "x", 4)))


SHA_OF_3_X_4 = "452099efed61f27c"
