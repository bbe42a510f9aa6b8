"""What `vmap` refuses in an algorithm of one's own: its line is named, and what to write in its place."""

import inspect
from pathlib import Path

import pytest
import torch
from engine_world import Branching, assert_same, gradients, meta_batch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import Algorithm, algorithms, engines
from fewshot_kit.errors import InputError

CLASSES = "use fewshot_kit.algorithms.members(y) for the classes of a task"


class Means(Algorithm):
    def predict(self, state, x):
        return -(self.model(x)[:, None] - state).square().sum(-1)


class Members(Means):
    def adapt(self, x, y):
        within = algorithms.members(y).to(x.dtype)
        return within.T @ self.model(x) / within.sum(0)[:, None]


class OneHot(Means):
    def adapt(self, x, y):
        within = F.one_hot(y).to(x.dtype)
        return within.T @ self.model(x) / within.sum(0)[:, None]


class Counted(Means):
    def adapt(self, x, y):
        ways = int(y.max()) + 1
        return F.one_hot(y, ways).to(x.dtype).T @ self.model(x)


class Asking(Means):
    def adapt(self, x, y):
        features = self.model(x)
        return features[:3] if bool((y > 1).any()) else features[:2]


class Masked(Means):
    def adapt(self, x, y):
        features = self.model(x)
        return torch.stack([features[y == c].mean(0) for c in range(3)])


class Listed(Means):
    def adapt(self, x, y):
        ways = len(set(y.tolist()))
        return F.one_hot(y, ways).to(x.dtype).T @ self.model(x)


class Descending(Means):
    def adapt(self, x, y):
        features = self.model(x)
        start = features[:3].detach().requires_grad_()
        return start - torch.autograd.grad(F.cross_entropy(features @ start.T, y), start, create_graph=True)[0]


class Leaf(Means):
    def adapt(self, x, y):
        features = self.model(x)
        start = algorithms.leaf(features[:3])
        slope = torch.autograd.grad(F.cross_entropy(features @ start.T, y), start, create_graph=True)[0]
        return start - slope


class Slope(Means):
    def adapt(self, x, y):
        features = self.model(x)
        start = algorithms.leaf(features[:3])
        return start - torch.func.grad(lambda start: F.cross_entropy(features @ start.T, y))(start)


def made(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(nn.Sequential(nn.Flatten(), nn.Linear(196, 3)).double())


@pytest.mark.parametrize(
    "kind, operator, code, remedy",
    [
        (OneHot, "one_hot", "within = F.one_hot(y).to(x.dtype)", CLASSES),
        (Counted, "item()", "ways = int(y.max()) + 1", CLASSES),
        (
            Asking,
            "control flow that depends on values",
            "return features[:3] if bool((y > 1).any()) else features[:2]",
            CLASSES,
        ),
        (
            Masked,
            "indexing by a mask",
            "return torch.stack([features[y == c].mean(0) for c in range(3)])",
            CLASSES,
        ),
        (Listed, "a list or array of values", "ways = len(set(y.tolist()))", CLASSES),
        (
            Descending,
            "requires_grad_()",
            "start = features[:3].detach().requires_grad_()",
            "use fewshot_kit.algorithms.leaf(tensor), and torch.func.grad for its gradient",
        ),
        (
            Leaf,
            "a gradient by autograd",
            "slope = torch.autograd.grad(F.cross_entropy(features @ start.T, y), start, create_graph=True)[0]",
            "use torch.func.grad",
        ),
    ],
)
def test_the_line_and_the_remedy_are_named(kind, operator, code, remedy):
    lines, first = inspect.getsourcelines(kind)
    number = first + next(n for n, line in enumerate(lines) if code in line)
    reason = f"{operator} in {Path(__file__).name}:{number} (`{code}`) does not vectorise: {remedy}"
    with pytest.raises(InputError) as refused:
        engines.meta_backward(made(kind), meta_batch(), "vmap")
    assert str(refused.value) == f"The engine 'vmap' cannot run this: {reason}, or take engine='loop'."
    choice = engines.choose(made(kind), meta_batch())
    assert (choice.engine, choice.why) == ("loop", f"vmap cannot run it: {reason}")


@pytest.mark.parametrize("kind, as_written", [(Members, OneHot), (Slope, Descending)])
def test_the_remedies_vectorise_and_change_nothing(kind, as_written):
    expected = gradients(made(as_written), meta_batch(), "loop")
    for engine in ("loop", "vmap"):
        assert_same(gradients(made(kind), meta_batch(), engine), expected)


def test_a_criterion_of_ones_own_is_a_line_too():
    def criterion(scores, targets):
        return F.cross_entropy(scores, targets) if scores.sum() > 0 else scores.sum()

    algorithm = algorithms.create("maml", model=nn.Sequential(nn.Flatten(), nn.Linear(196, 3)), criterion=criterion)
    with pytest.raises(InputError, match=r"depends on values in test_refusals.py:\d+ \(`return F.cross_entropy"):
        engines.meta_backward(algorithm.double(), meta_batch(), "vmap")


def test_where_the_model_is_at_fault_its_module_is_named():
    said = "control flow that depends on values in Branching does not vectorise; take engine='loop'"
    with pytest.raises(InputError, match=said):
        engines.meta_backward(made(lambda _: Members(Branching().double())), meta_batch(), "vmap")


def test_members_are_the_one_hot_of_the_labels():
    y = torch.tensor([2, 0, 2, 1])
    assert torch.equal(algorithms.members(y), torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]))
    assert algorithms.members(y).dtype == torch.int64
    several = torch.tensor([[0, 1], [2, 2]])  # all tasks have as many columns as the one with the most classes
    assert torch.equal(torch.vmap(algorithms.members)(several), F.one_hot(several, 3))
