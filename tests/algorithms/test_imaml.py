"""The implicit meta-gradient against an unrolled one, where the inner loop has converged."""

import functools

import numpy as np
import pytest
import torch
from test_gradients import batch, network
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.episodes import unstack
from fewshot_kit.errors import InputError


def linear():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(6, 3).double()


def unrolled(model, task, penalty, lr, steps):
    """Back-propagation through every step of the same proximal descent."""
    start = [p.detach().clone().requires_grad_() for p in model.parameters()]
    weight, bias = start
    for _ in range(steps):
        away = ((weight - start[0]) ** 2).sum() + ((bias - start[1]) ** 2).sum()
        loss = F.cross_entropy(F.linear(task.support_x, weight, bias), task.support_y) + penalty / 2 * away
        slopes = torch.autograd.grad(loss, (weight, bias), create_graph=True)
        weight, bias = weight - lr * slopes[0], bias - lr * slopes[1]
    loss = F.cross_entropy(F.linear(task.query_x, weight, bias), task.query_y)
    return loss.detach(), torch.autograd.grad(loss, start)


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_the_implicit_gradient_is_the_unrolled_one_at_convergence(engine):
    (task,) = unstack(batch(1))
    expected, slopes = unrolled(linear(), task, penalty=0.5, lr=0.3, steps=300)
    imaml = algorithms.create("imaml", model=linear(), lr=0.3, steps=300, penalty=0.5, cg_steps=25, damping=0)
    losses, _ = engines.meta_backward(imaml, batch(1), engine)
    torch.testing.assert_close(losses[0], expected, rtol=1e-9, atol=0)
    for parameter, slope in zip(imaml.parameters(), slopes, strict=True):
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("damping", [0.0, 3.0])
def test_what_the_solver_solves(damping):
    (task,) = unstack(batch(1))
    imaml = algorithms.create("imaml", model=linear(), lr=0.3, steps=2, penalty=0.5, cg_steps=25, damping=damping)
    imaml.loss(task)[0].backward()
    found = torch.cat([p.grad.flatten() for p in imaml.parameters()]).numpy()
    state = imaml.adapt(task.support_x, task.support_y)["parameters"]
    there = torch.cat([state["weight"].flatten(), state["bias"]]).detach()

    def loss(flat, x, y):
        return F.cross_entropy(F.linear(x, flat[:18].view(3, 6), flat[18:]), y)

    slopes = torch.func.grad(loss)(there, task.query_x, task.query_y).numpy()
    support = functools.partial(loss, x=task.support_x, y=task.support_y)
    curvature = torch.autograd.functional.hessian(support, there).numpy()
    np.testing.assert_allclose(found, np.linalg.solve(np.eye(21) + curvature / (0.5 + damping), slopes), rtol=1e-7)


def test_a_few_conjugate_steps_come_near():
    (task,) = unstack(batch(1))
    _, slopes = unrolled(linear(), task, penalty=2.0, lr=0.2, steps=200)
    errors = []
    for cg_steps in (1, 3, 6):
        options = {"lr": 0.2, "steps": 200, "penalty": 2.0, "cg_steps": cg_steps, "damping": 0}
        imaml = algorithms.create("imaml", model=linear(), **options)
        engines.meta_backward(imaml, batch(1), "loop")
        errors.append(sum((p.grad - s).norm().item() for p, s in zip(imaml.parameters(), slopes, strict=True)))
    assert errors[0] > errors[1] > errors[2]


def test_the_graph_does_not_grow_with_the_steps():
    (task,) = unstack(batch(1))
    sizes = set()
    for steps in (1, 12):
        loss, _ = algorithms.create("imaml", model=network(), lr=0.1, steps=steps).loss(task)
        sizes.add(_nodes(loss.grad_fn))
    assert len(sizes) == 1
    loss, _ = algorithms.create("maml", model=network(), lr=0.1, steps=12).loss(task)  # what it is spared
    assert _nodes(loss.grad_fn) > 10 * sizes.pop()


def _nodes(function):
    seen, waiting = set(), [function]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(seen)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"penalty": 0.0}, "penalty is 0.0"),
        ({"cg_steps": 0}, "cg_steps is 0"),
        ({"damping": -1.0}, "damping is -1.0; it must be 0 or a positive number."),
        ({"damping": float("nan")}, "damping is nan"),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(InputError, match=said):
        algorithms.create("imaml", model=linear(), **options)
