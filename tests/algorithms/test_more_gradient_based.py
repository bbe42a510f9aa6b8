"""Meta-SGD and Reptile against independent statements of their papers."""

import copy

import pytest
import torch
from test_gradients import LR, NAMES, batch, forward, network
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.algorithms.bases.inner_loop import adam
from fewshot_kit.episodes import Episode, unstack


def test_the_rates_gradient_is_minus_the_product_of_two_slopes():
    """Equation 2 with one step: theta' = theta - rate * g, so that dL/drate = -g * dL/dtheta'."""
    algorithm = algorithms.create("meta_sgd", model=network(), lr=LR)
    (task,) = unstack(batch(1))
    p = {n: v.detach().clone().requires_grad_() for n, v in network().named_parameters()}
    inner = torch.autograd.grad(F.cross_entropy(forward(p, task.support_x), task.support_y), list(p.values()))
    there = {n: (v - LR * g).detach().requires_grad_() for (n, v), g in zip(p.items(), inner, strict=True)}
    outer = torch.autograd.grad(F.cross_entropy(forward(there, task.query_x), task.query_y), list(there.values()))
    engines.meta_backward(algorithm, batch(1), "loop")
    for rate, g, slope in zip(algorithm.rates, inner, outer, strict=True):
        torch.testing.assert_close(rate.grad, -g * slope, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_engines_agree_with_learn2learns_meta_sgd(engine, first_order):
    algorithm = algorithms.create("meta_sgd", model=network(), lr=LR, steps=2, first_order=first_order)
    with torch.no_grad():  # rates as different as learned ones are
        for index, rate in enumerate(algorithm.rates):
            rate.mul_(0.5 + 0.1 * index)
    found = []
    for name in (engine, "reference"):
        algorithm.zero_grad()
        engines.meta_backward(algorithm, batch(), name)
        found.append([p.grad.clone() for p in algorithm.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_with_rates_all_alike_it_is_maml():
    gradients = []
    for name in ("meta_sgd", "maml"):
        algorithm = algorithms.create(name, model=network(), lr=LR, steps=2)
        engines.meta_backward(algorithm, batch(), "loop")
        gradients.append([p.grad for p in algorithm.model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_the_figures_of_learned_rates():
    algorithm = algorithms.create("meta_sgd", model=network(), lr=LR)
    assert algorithm.lr == LR and algorithm.figures() == {"rate": pytest.approx(LR), "rate_deviation": 0}


def adapted_by_torch(task, steps, lr, parts=None):
    """Adam without momentum on a copy, on support and query together, by PyTorch's own optimiser.

    In turns on the examples whose numbers `parts` gives, where it gives any.
    """
    model = copy.deepcopy(network()).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.0, 0.999))
    x, y = torch.cat([task.support_x, task.query_x]), torch.cat([task.support_y, task.query_y])
    for step in range(steps):
        part = parts[step % len(parts)] if parts else slice(None)
        optimizer.zero_grad()
        F.cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()
    return model


# Two support and three query examples of each of three classes, in the order of their classes: 15 in all.
MINI_BATCHES = {
    8: None,  # one batch
    5: [[0, 2, 4, 1, 3], [5, 6, 9, 12, 7], [10, 13, 8, 11, 14]],  # the first of every class, the second ones and so on
    6: [[0, 2, 4, 1, 3, 5, 6, 9], [12, 7, 10, 13, 8, 11, 14]],  # 15 in batches of at least 6
}


@pytest.mark.parametrize("size", MINI_BATCHES)
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_reptiles_gradient_is_the_way_to_the_adapted_parameters(engine, size):
    algorithm = algorithms.create("reptile", model=network(), lr=0.01, steps=4, batch=size)
    losses, scores = engines.meta_backward(algorithm, batch(), engine)
    models = [adapted_by_torch(task, 4, 0.01, MINI_BATCHES[size]) for task in unstack(batch())]
    there = [dict(model.named_parameters()) for model in models]
    for name, parameter in algorithm.model.named_parameters():
        expected = torch.stack([parameter.detach() - one[name].detach() for one in there]).mean(0)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-6, atol=1e-8)  # a slope of zero but for rounding
    own = dict(network().named_parameters())
    distance = sum(((own[n] - there[0][n]) ** 2).sum() for n in NAMES) / 2
    torch.testing.assert_close(losses[0], distance.detach(), rtol=1e-6, atol=1e-12)
    assert scores.shape == (2, 9, 3)


def test_adam_without_momentum_is_the_normalised_gradient():
    """One step of it moves every element by the rate, whatever the gradient's size."""
    rule = adam(0.1, betas=(0.0, 0.999))
    p = {"w": torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)}
    moved, _ = rule.update(
        p, {"w": torch.tensor([1e-3, -5.0, 70.0], dtype=torch.float64)}, torch.tensor(0.0), rule.init(p), 0
    )
    torch.testing.assert_close(moved["w"], p["w"] - 0.1 * torch.tensor([1.0, -1.0, 1.0]), rtol=1e-4, atol=0)


def test_reptile_adapts_to_the_support_set_alone():
    (task,) = unstack(batch(1))
    algorithm = algorithms.create("reptile", model=network(), lr=0.01, steps=4)
    ours = algorithm.adapt(task.support_x, task.support_y)["parameters"]
    alone = Episode(task.support_x, task.support_y, task.support_x[:0], task.support_y[:0])
    for name, parameter in adapted_by_torch(alone, 4, 0.01).named_parameters():
        torch.testing.assert_close(ours[name], parameter, rtol=1e-6, atol=1e-9)
