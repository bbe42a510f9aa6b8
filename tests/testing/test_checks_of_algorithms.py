"""The checks notice what they are for: each algorithm here breaks one promise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import Algorithm
from fewshot_kit.testing import ALGORITHM_CHECKS, check_algorithm


class Means(Algorithm):
    """Class means, done right."""

    def adapt(self, x, y):
        members = (y[:, None] == torch.arange(self.ways(y))).to(x.dtype)
        return members.T @ self.model(x) / members.sum(0)[:, None]

    def ways(self, y):
        return self.model.head.out_features

    def predict(self, state, x):
        return -(self.model(x)[:, None] - state).square().sum(-1)

    @property
    def max_ways(self):
        return self.model.head.out_features


class OneColumn(Means):
    def predict(self, state, x):
        return super().predict(state, x)[:, :1]


class NotFinite(Means):
    def predict(self, state, x):
        return super().predict(state, x) / 0


class Stores(Means):
    def adapt(self, x, y):
        self.state = super().adapt(x, y)
        return self.state


class Shares(Means):
    def __init__(self, model):
        super().__init__(model)
        self.kept = [torch.zeros(1)]

    def adapt(self, x, y):
        self.kept[0] = super().adapt(x, y)
        return torch.zeros(1)

    def predict(self, state, x):
        return super().predict(self.kept[0], x)


class Draws(Means):
    def predict(self, state, x):
        return super().predict(state, x) + 0 * torch.rand(1, dtype=x.dtype)


class Moves(Means):
    def __init__(self, model):
        super().__init__(model)
        self.register_buffer("count", torch.zeros(1))

    def predict(self, state, x):
        self.count += 1
        return super().predict(state, x)


class Eats(Means):
    def predict(self, state, x):
        scores = super().predict(state, x)
        state.data += 1
        return scores


class Blind(Means):
    def adapt(self, x, y):
        return super().adapt(torch.ones_like(x), y)

    def predict(self, state, x):
        return super().predict(state, torch.ones_like(x))


class NeedsGradients(Means):
    def adapt(self, x, y):
        state = super().adapt(x, y)
        torch.autograd.grad(state.sum(), self.model.head.bias, retain_graph=True)
        return state


class Idle(Means):
    def __init__(self, model):
        super().__init__(model)
        self.scale = nn.Parameter(torch.ones(2))


class Wide(Means):
    def loss(self, episode):
        loss, scores = super().loss(episode)
        return loss.float(), scores


class ByTheBatch(Means):
    """The first task of all counts double."""

    tasks = 0

    def loss(self, episode):
        loss, scores = super().loss(episode)
        type(self).tasks += 1
        return loss * type(self).tasks, scores


class Backwards(Means):
    def loss(self, episode):
        loss, scores = super().loss(episode)
        return -loss, scores


class OneHot(Means):
    def ways(self, y):
        return F.one_hot(y).shape[1]


class Hides(Means):
    def __init__(self, model, power=2):
        super().__init__(model)
        self._power = power


class Uncopied(Means):
    def __init__(self, model):
        super().__init__(model)
        self.offset = torch.rand(5, dtype=next(model.parameters()).dtype)

    def predict(self, state, x):
        return super().predict(state, x) + self.offset[: len(state)]


class Odd(Means):
    def adapt(self, x, y):
        return {"means": super().adapt(x, y), "how": copy.copy}

    def predict(self, state, x):
        return super().predict(state["means"], x)


BROKEN = {
    OneColumn: "predict gives scores of shape .* they must be",
    NotFinite: "scores that are not finite, 2-way 1-shot",
    Stores: "adapt or predict changes the attributes of a module",
    Shares: "The scores of a task change where another was adapted to in between",
    Draws: "adapt or predict draws from the global RNG",
    Moves: "adapt or predict changes count",
    Eats: "predict changes the state that it is given",
    Blind: "Two tasks get the same scores",
    Idle: "No finite gradient reaches scale",
    Wide: "has a loss in torch.float32",
    ByTheBatch: "is not the mean over the tasks",
    Backwards: "what is trained does not help with the queries",
    OneHot: "does not vectorise.*check it with vectorises=False",
    Hides: "The option power of Hides is no attribute of that name",
    Odd: "A learner cannot be saved with this state: A function at 'how'",
    Uncopied: "Filled with the state dict, a new object gives other scores",
}


def test_what_is_done_right_passes():
    random = torch.get_rng_state()
    check_algorithm(Means)
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("broken", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_promise_is_named(broken):
    with pytest.raises(AssertionError, match=f"(?s){BROKEN[broken]}"):
        check_algorithm(broken)


def test_what_fails_by_itself_is_not_hidden():
    with pytest.raises(RuntimeError, match="does not require grad"):
        check_algorithm(NeedsGradients)


def test_what_does_not_vectorise_passes_where_that_is_said():
    check_algorithm(OneHot, vectorises=False)


def test_what_is_no_algorithm():
    with pytest.raises(AssertionError, match="Linear does not derive from fewshot_kit.Algorithm"):
        check_algorithm(lambda model: nn.Linear(1, 1))


def test_every_check_has_a_sentence():
    assert all(check.__doc__ and check.__doc__.endswith((".", '."""')) for check in ALGORITHM_CHECKS)
