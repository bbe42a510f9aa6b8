"""Scores of whole batches of features, in plain tensors, against one task after another."""

import inspect

import pytest
import torch
from torch import nn
from toy import points

from fewshot_kit import algorithms, evaluate
from fewshot_kit.algorithms.bases import metric
from fewshot_kit.episodes import Episode, unstack

NAMES = [
    name
    for name in algorithms.names()
    if inspect.isclass(algorithms.get(name)) and "scores_of" in vars(algorithms.get(name))
]
TASK = {"ways": 3, "shots": 2, "queries": 4}


def drawn(dtype=torch.float64, shape=(8,)) -> Episode:
    """Five tasks, whose labels come in another order in each."""
    generator = torch.Generator().manual_seed(0)
    x, query = (torch.randn(5, rows, *shape, generator=generator, dtype=torch.float64).to(dtype) for rows in (6, 7))
    y = torch.stack([torch.arange(3).repeat(2)[torch.randperm(6, generator=generator)] for _ in range(5)])
    return Episode(x, y, query, torch.zeros(5, 7, dtype=torch.int64))


def one_by_one(algorithm, episodes):
    return torch.stack(
        [algorithm.predict(algorithm.adapt(e.support_x, e.support_y), e.query_x) for e in unstack(episodes)]
    )


def test_who_has_them():
    assert NAMES == ["nearest_centroid", "protonet", "simple_shot"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("values", [1, 100, 2**19])  # one task, two tasks or all of them at a time
@pytest.mark.parametrize("shape", [(8,), (1, 4, 2)])
def test_they_are_those_of_one_task_after_another(name, values, shape, monkeypatch):
    monkeypatch.setattr(metric, "VALUES", values)
    algorithm, episodes = algorithms.create(name, model=nn.Identity()), drawn(shape=shape)
    torch.testing.assert_close(algorithm.at_once(episodes), one_by_one(algorithm, episodes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", NAMES)
def test_in_every_dtype(name, dtype):
    algorithm, episodes = algorithms.create(name, model=nn.Identity()), drawn(dtype)
    found, expected = algorithm.at_once(episodes), one_by_one(algorithm, episodes)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected)


def test_options_count():
    for options in ({"distance": "cosine", "scale": 3.0}, {}):
        protonet = algorithms.create("protonet", model=nn.Identity(), **options)
        torch.testing.assert_close(protonet.at_once(drawn()), one_by_one(protonet, drawn()))
    head = algorithms.create("simple_shot", model=nn.Identity())
    head.base_mean = torch.linspace(-1, 1, 8, dtype=torch.float64)
    torch.testing.assert_close(head.at_once(drawn()), one_by_one(head, drawn()))


class Shy(algorithms.ProtoNet):
    """Another `predict` than the one that `scores_of` stands for."""

    def predict(self, state, x):
        return super().predict(state, x).flip(-1)


@pytest.mark.parametrize(
    "algorithm", [Shy(nn.Identity()), algorithms.ProtoNet(nn.Tanh()), algorithms.Ridge(nn.Identity())]
)
def test_the_others_have_none(algorithm):
    assert algorithm.at_once(drawn(torch.float32)) is None


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_takes_them_and_measures_the_same(name, monkeypatch):
    asked = []
    kind = algorithms.get(name)
    scores_of = kind.scores_of
    monkeypatch.setattr(kind, "scores_of", lambda *given: asked.append(1) or scores_of(*given))
    algorithm = algorithms.create(name, model=nn.Identity())
    found = evaluate(algorithm, points(), **TASK, episodes=40)
    assert asked
    asked.clear()
    loop = evaluate(algorithm, points(), **TASK, episodes=40, engine="loop")
    assert not asked and found.per_episode == loop.per_episode and found.loss == pytest.approx(loop.loss, rel=1e-5)
    upside_down = evaluate(Shy(nn.Identity()), points(), **TASK, episodes=40)
    assert upside_down.mean < 0.5 < found.mean
