"""Buffers that a task moves: every engine starts each task from the same ones and keeps the mean of the moves."""

import copy

import pytest
import torch
from engine_world import assert_same, gradients, meta_batch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import Algorithm, engines
from fewshot_kit.engines import compiled
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.errors import InputError

INFINITE = float("inf")


class Network(nn.Module):
    """Batch norm, and buffers of other kinds: one written anew, a counter, masks."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Linear(196, 4), nn.BatchNorm1d(4)
        self.register_buffer("mean", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.tensor([0.0, -INFINITE, 0.0, 0.0]))
        self.register_buffer("shown", torch.tensor([True, False, True, True]))

    def forward(self, x):
        self.mean = 0.5 * self.mean + 0.5 * x.detach().mean()
        self.seen += len(x)
        features = self.norm(self.layer(x.flatten(1)) * self.shown) * self.mean
        return torch.softmax(features + self.mask, 1)


class Moving(Algorithm):
    """Runs its model as any module runs, so that every task moves the running statistics."""

    def adapt(self, x, y):
        return F.one_hot(y, 3).to(x.dtype).T @ self.model(x)

    def predict(self, state, x):
        return self.model(x) @ state.T


def moving():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return Moving(Network().double()).train()


def expected(batch):
    """Each task by itself from the same start; then the mean of what they left, or the sum for a counter."""
    left = []
    for task in unstack(batch):
        alone = moving()
        alone.loss(task)
        left.append(dict(alone.named_buffers()))
    means = {name: torch.stack([each[name].double() for each in left]).mean(0) for name in left[0]}
    count = len(left)
    return {
        name: (mean * count if name.endswith(("seen", "tracked")) else mean).to(left[0][name].dtype)
        for name, mean in means.items()
    }


WAYS_TO_RUN = {
    "loop": {"engine": "loop"},
    "loop on one worker": {"engine": "loop", "workers": 1},
    "loop on three": {"engine": "loop", "workers": 3},
    "vmap": {"engine": "vmap"},
    "vmap in chunks": {"engine": "vmap", "chunk": 2},
}


@pytest.mark.parametrize("way", WAYS_TO_RUN)
def test_they_go_by_the_mean_of_the_tasks(threads, way):
    threads(3)
    algorithm, batch = moving(), meta_batch()
    first = gradients(algorithm, batch, **WAYS_TO_RUN[way])
    assert_same(first, gradients(moving(), batch))
    for name, value in expected(batch).items():
        torch.testing.assert_close(algorithm.get_buffer(name), value, rtol=1e-12, atol=0)
    assert algorithm.model.seen == 5 * 12 and algorithm.model.norm.num_batches_tracked == 5 * 2
    assert not algorithm.model.mean.requires_grad


@pytest.mark.long
def test_a_compiled_program_moves_them_too(monkeypatch):
    """What is recorded, without the minute of a C++ compiler."""
    monkeypatch.setattr(compiled.torch, "compile", lambda recorded, **options: recorded)
    algorithm, batch = moving(), meta_batch(4)
    choice = engines.choose(algorithm, batch, compile=True)
    assert choice.compiled and algorithm.model.seen == 0  # what was tried left nothing
    gradients(algorithm, batch, choice)
    for name, value in expected(batch).items():
        torch.testing.assert_close(algorithm.get_buffer(name), value, rtol=1e-12, atol=0)


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_prediction_leaves_them_alone_and_no_task_sees_those_before_it(engine):
    algorithm, batch = moving(), meta_batch()
    before = copy.deepcopy(dict(algorithm.named_buffers()))
    choice = engines.choose(algorithm, batch, engine)
    scores = choice.predict(algorithm, batch)
    for name, value in algorithm.named_buffers():
        assert torch.equal(value, before[name]), name
    backwards = Episode(*(tensor.flip(0) for tensor in batch))
    torch.testing.assert_close(choice.predict(algorithm, backwards).flip(0), scores)


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_that_move_something_after_others_that_did_not(threads, workers):
    class Late(Moving):
        def loss(self, episode):
            if episode.support_x[0, 0, 0, 0] > 1:
                self.model.mean.add_(episode.support_x[0, 0, 0, 0].round())
            return self.model.layer(episode.query_x.flatten(1)).sum() * self.model.mean, episode.query_x.flatten(1)

    threads(2)
    algorithm, batch = Late(moving().model), meta_batch(6)
    plain = gradients(algorithm, batch, workers=workers)
    batch.support_x[3, 0, 0, 0, 0], batch.support_x[4, 0, 0, 0, 0] = 3.0, 6.0
    found = gradients(algorithm, batch, workers=workers)
    assert algorithm.model.mean == 1 + (3 + 6) / 6
    factors = torch.tensor([1.0, 1.0, 1.0, 4.0, 7.0, 1.0]).double()  # of the tasks' losses
    torch.testing.assert_close(found[0], plain[0] * factors)


def test_a_task_that_fails_moves_nothing():
    class Failing(Moving):
        def predict(self, state, x):
            super().predict(state, x)
            raise InputError("no queries today")

    algorithm = Failing(moving().model)
    before = copy.deepcopy(dict(algorithm.named_buffers()))
    with pytest.raises(InputError, match="no queries today"):
        engines.meta_backward(algorithm, meta_batch(), "loop")
    assert all(torch.equal(value, before[name]) for name, value in algorithm.named_buffers())
