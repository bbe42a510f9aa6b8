"""Scripts written for learn2learn run with the kit's classes in place of learn2learn's."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import compat
from fewshot_kit.algorithms import ANIL, BOIL, MAML
from fewshot_kit.algorithms.bases.frozen_learner import FrozenLearner


def network():
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def tasks(count, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        yield torch.randn(12, 4, generator=generator, dtype=torch.float64), torch.arange(3).repeat(4)


def training_script(maml, iterations=3, meta_batch=2, adaptation_steps=2):
    """The shape of learn2learn's own examples: clone, adapt, evaluate, backward, average by hand, step."""
    optimizer = torch.optim.Adam(maml.parameters(), 1e-2)
    loss = nn.CrossEntropyLoss(reduction="mean")
    for iteration in range(iterations):
        optimizer.zero_grad()
        for data, labels in tasks(meta_batch, iteration):
            learner = maml.clone()
            for _ in range(adaptation_steps):
                learner.adapt(loss(learner(data[:6]), labels[:6]))
            loss(learner(data[6:]), labels[6:]).backward()
        for p in maml.parameters():
            p.grad.data.mul_(1.0 / meta_batch)
        optimizer.step()
    return [p.detach() for p in maml.parameters()]


@pytest.mark.parametrize("first_order", [False, True])
def test_a_training_script_gives_the_same_weights(first_order):
    ours = training_script(MAML(network(), lr=0.1, first_order=first_order))
    theirs = training_script(compat.learn2learn().algorithms.MAML(network(), lr=0.1, first_order=first_order))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], next(network().parameters()))


def test_the_clone_is_learn2learns_own():
    assert isinstance(MAML(network(), 0.1).clone(), compat.learn2learn().algorithms.MAML)
    assert MAML(network(), 0.1).clone(first_order=True).first_order


def test_an_anil_script_wraps_the_head_only():
    """learn2learn's ANIL examples wrap the head in MAML and compute the features outside."""
    features, head = nn.Linear(4, 8).double(), nn.Linear(8, 3).double()

    def script(maml_class):
        learner = maml_class(copy.deepcopy(head), lr=0.1).clone()
        data, labels = next(tasks(1, 0))
        learner.adapt(F.cross_entropy(learner(features(data[:6])), labels[:6]))
        return F.cross_entropy(learner(features(data[6:])), labels[6:])

    assert torch.equal(script(MAML), script(compat.learn2learn().algorithms.MAML))


def test_calling_an_algorithm_runs_the_model():
    model, x = network(), torch.randn(2, 4, dtype=torch.float64)
    assert torch.equal(MAML(model, 0.1)(x), model(x))


@pytest.mark.parametrize("algorithm, moves", [(BOIL, ["0.weight", "0.bias"]), (ANIL, ["2.weight", "2.bias"])])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_frozen_learner_steps_by_hand(algorithm, moves, first_order):
    model = network()
    data, labels = next(tasks(1, 0))
    learner = algorithm(model, lr=0.1, first_order=first_order).clone()
    assert isinstance(learner, FrozenLearner)
    names = [n for n, _ in model.named_parameters()]
    grads = torch.autograd.grad(F.cross_entropy(model(data), labels), list(model.parameters()))
    learner.adapt(F.cross_entropy(learner(data), labels))
    for name, p, g, after in zip(names, model.parameters(), grads, learner.learner.fast_params, strict=True):
        torch.testing.assert_close(after, p - 0.1 * g if name in moves else p, rtol=1e-12, atol=0)
    F.cross_entropy(learner(data), labels).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())  # frozen inside, trained outside


def test_a_frozen_parameter_needs_no_flag():
    model = network()
    model[0].requires_grad_(False)
    data, labels = next(tasks(1, 0))
    for algorithm in (MAML, BOIL, ANIL):
        learner = algorithm(model, lr=0.1).clone()
        model.zero_grad()
        learner.adapt(F.cross_entropy(learner(data), labels))
        F.cross_entropy(learner(data), labels).backward()
        assert model[0].weight.grad is None and model[2].weight.grad is not None
