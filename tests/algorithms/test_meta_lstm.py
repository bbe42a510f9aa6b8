"""The LSTM meta-learner against NumPy, against its two layers written out by PyTorch's own cell, and against SGD."""

import math
import re

import numpy as np
import pytest
import torch
from test_gradients import batch, forward, network
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.algorithms.meta_lstm import preprocessed
from fewshot_kit.episodes import unstack
from fewshot_kit.errors import InputError

STEPS = 3


def lively(model, **options):
    """A rule whose weights are far from 0, so that every part of it matters."""
    algorithm = algorithms.create("meta_lstm", model=model, steps=STEPS, **options).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*algorithm.first.parameters(), *algorithm.gates.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) / 2)
    return algorithm


def forced(algorithm, take, keep):
    """The gates, whatever they see."""
    with torch.no_grad():
        algorithm.gates.weight.zero_()
        algorithm.gates.bias.copy_(torch.tensor([take, keep], dtype=torch.float64))
    return algorithm


def by_the_paper(x, p=10):
    """Section 3.2's formula, case by case."""
    if abs(x) >= math.exp(-p):
        return math.log(abs(x)) / p, float(np.sign(x))
    return -1.0, math.exp(p) * x


def test_preprocessing():
    values = [0.0, 1e-9, -2e-5, math.exp(-10), -math.exp(-10), 1e-4, -0.3, 1.0, 70.0]
    found = preprocessed(torch.tensor(values, dtype=torch.float64))
    np.testing.assert_allclose(found.T, [by_the_paper(x) for x in values], rtol=1e-12, atol=1e-15)
    assert preprocessed(torch.tensor(-3.0)).tolist() == pytest.approx([math.log(3) / 10, -1])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_two_steps_on_three_parameters():
    """Linear regression, with the gradient by hand and the two layers one parameter at a time in NumPy."""
    generator = np.random.default_rng(0)
    x, y, theta = generator.normal(size=(5, 2)), generator.normal(size=5), generator.normal(size=3)
    model = nn.Linear(2, 1).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor(theta[None, :2]))
        model.bias.copy_(torch.tensor(theta[2:]))
    algorithm = lively(model, hidden=4)
    algorithm.steps = 2
    state = algorithm.adapt(torch.tensor(x), torch.tensor(y))

    w_x, w_h, b_x, b_h = (p.detach().numpy() for p in algorithm.first.parameters())
    (w_take, w_keep), (b_take, b_keep) = algorithm.gates.weight.detach().numpy(), algorithm.gates.bias.tolist()
    h, c, take, keep = np.zeros((3, 4)), np.zeros((3, 4)), np.zeros(3), np.zeros(3)
    features = np.column_stack([x, np.ones(5)])
    for _ in range(2):
        error = features @ theta - y
        slope, loss = 2 / 5 * features.T @ error, (error**2).mean()
        for k in range(3):
            seen = np.array([*by_the_paper(slope[k]), *by_the_paper(loss)])
            i, f, g, o = np.split(w_x @ seen + b_x + w_h @ h[k] + b_h, 4)
            c[k] = sigmoid(f) * c[k] + sigmoid(i) * np.tanh(g)
            h[k] = sigmoid(o) * np.tanh(c[k])
            take[k] = sigmoid(w_take @ [*h[k], theta[k], take[k]] + b_take)
            keep[k] = sigmoid(w_keep @ [*h[k], theta[k], keep[k]] + b_keep)
        theta = keep * theta - take * slope

    found = torch.cat([state["parameters"][name].detach().flatten() for name in ("weight", "bias")])
    np.testing.assert_allclose(found, theta, rtol=1e-12)


def test_with_the_gates_forced_open_it_is_gradient_descent():
    """f = sigmoid(40), which is 1 in float64, and i = sigmoid(0) = 1/2."""
    algorithm = forced(lively(network()), 0.0, 40.0)
    generator = torch.Generator().manual_seed(0)
    p, g = (
        {name: torch.randn(v.shape, generator=generator, dtype=v.dtype) for name, v in network().named_parameters()}
        for _ in range(2)
    )
    rule = algorithm.rule()
    memory, there = rule.init(p), p
    for step in range(2):
        there, memory = rule.update(there, g, torch.tensor(0.7, dtype=torch.float64), memory, step)
    assert all(torch.equal(there[name], p[name] - 0.5 * g[name] - 0.5 * g[name]) for name in p)

    (task,) = unstack(batch(1))
    sgd = algorithms.create("maml", model=network(), lr=0.5, steps=STEPS)
    ours, theirs = (one.adapt(task.support_x, task.support_y)["parameters"] for one in (algorithm, sgd))
    for name, parameter in theirs.items():
        torch.testing.assert_close(ours[name], parameter, rtol=1e-12, atol=1e-13)


def test_it_starts_near_gradient_descent():
    (task,) = unstack(batch(1))
    start = dict(network().named_parameters())
    there = [
        algorithms.create(name, model=network(), lr=0.2, steps=1).adapt(task.support_x, task.support_y)["parameters"]
        for name in ("meta_lstm", "maml")
    ]
    for name, p in start.items():
        away = (there[0][name] - there[1][name]).abs()
        # The forget gate is at 0.993, and every weight below 0.01.
        assert (away <= 0.01 * p.abs() + 0.05 * (p - there[1][name]).abs() + 1e-12).all()


def slow(algorithm, p, task):
    """The adapted parameters by PyTorch's own LSTM cell on rows `[n, 4]`, with every step's slope as a constant."""
    sizes, hidden = [v.numel() for v in p.values()], algorithm.first.hidden_size
    theta, memory = torch.cat([v.flatten() for v in p.values()]), None
    take = keep = theta.new_zeros(len(theta), 1)
    for _ in range(STEPS):
        now = {n: v.view_as(p[n]) for n, v in zip(p, theta.split(sizes), strict=True)}
        fixed = {n: v.detach().requires_grad_() for n, v in now.items()}
        loss = F.cross_entropy(forward(fixed, task.support_x), task.support_y)
        slope = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(fixed.values()))])
        rows = [[*by_the_paper(g), *by_the_paper(loss.item())] for g in slope.tolist()]
        memory = algorithm.first(torch.tensor(rows, dtype=torch.float64), memory)
        assert memory[0].shape == (len(theta), hidden)
        seen = torch.cat([memory[0], theta[:, None]], 1)
        weight, bias = algorithm.gates.weight, algorithm.gates.bias
        take = torch.sigmoid(torch.cat([seen, take], 1) @ weight[0] + bias[0])[:, None]
        keep = torch.sigmoid(torch.cat([seen, keep], 1) @ weight[1] + bias[1])[:, None]
        theta = keep.squeeze(1) * theta - take.squeeze(1) * slope
    return {n: v.view_as(p[n]) for n, v in zip(p, theta.split(sizes), strict=True)}


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_the_meta_gradient_is_that_of_the_two_layers_written_out(engine):
    algorithm = lively(network(), hidden=6)
    losses, scores = engines.meta_backward(algorithm, batch(), engine)
    found = {name: p.grad.clone() for name, p in algorithm.named_parameters()}
    algorithm.zero_grad()
    tasks, p = unstack(batch()), dict(algorithm.model.named_parameters())
    there = [forward(slow(algorithm, p, task), task.query_x) for task in tasks]
    expected = [F.cross_entropy(one, task.query_y) for one, task in zip(there, tasks, strict=True)]
    (sum(expected) / len(expected)).backward()
    torch.testing.assert_close(losses, torch.stack(expected).detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(scores, torch.stack(there).detach(), rtol=1e-8, atol=1e-10)
    for name, parameter in algorithm.named_parameters():
        assert name == "model.0.bias" or parameter.grad.abs().max() > 1e-6, name  # that one is before batch norm
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-7, atol=1e-10)


def test_the_initial_state_is_learned():
    """With gates that see nothing, d theta_T / d c_0 is the product of the forget gates."""
    algorithm, (task,) = forced(lively(network()), -1.0, 0.4), unstack(batch(1))
    engines.meta_backward(algorithm, batch(1), "loop")
    there = {
        n: p.detach().requires_grad_() for n, p in algorithm.adapt(task.support_x, task.support_y)["parameters"].items()
    }
    slopes = torch.autograd.grad(F.cross_entropy(forward(there, task.query_x), task.query_y), list(there.values()))
    for name, slope in zip(there, slopes, strict=True):
        grad = algorithm.model.get_parameter(name).grad
        torch.testing.assert_close(grad, sigmoid(0.4) ** STEPS * slope, rtol=1e-9, atol=1e-12)


def test_no_steps():
    algorithm, (task,) = algorithms.create("meta_lstm", model=network(), steps=0), unstack(batch(1))
    state = algorithm.adapt(task.support_x, task.support_y)
    for name, parameter in network().named_parameters():
        assert torch.equal(state["parameters"][name], parameter)
    assert algorithm.predict(state, task.query_x).shape == (9, 3)


def test_frozen_parameters_stay():
    (task,) = unstack(batch(1))
    for names in (["0.weight", "3.bias"], list(dict(network().named_parameters()))):
        model = network()
        for name in names:
            model.get_parameter(name).requires_grad_(False)
        algorithm = algorithms.create("meta_lstm", model=model)
        state = algorithm.adapt(task.support_x, task.support_y)
        assert not set(names) & set(state["parameters"]) and len(names) + len(state["parameters"]) == 6
        assert algorithm.predict(state, task.query_x).isfinite().all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr": 1.0}, "MetaLSTM's lr is 1.0; it is where a sigmoid starts, and must be below 1."),
        ({"lr": 0.0}, "The inner loop's lr is 0.0; it must be a positive number."),
        ({"steps": -1}, "The inner loop's steps are -1; they must be a whole number, 0 or more."),
        ({"hidden": 0}, "hidden is 0; it must be a whole number of at least 1."),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        algorithms.create("meta_lstm", model=network(), **options)
