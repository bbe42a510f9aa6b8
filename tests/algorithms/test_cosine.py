"""The cosine classifier of Baseline++ against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_kit import algorithms
from fewshot_kit.errors import InputError

Y = np.array([0, 1, 2, 0, 1, 2])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def make(**options):
    return algorithms.create("cosine", model=nn.Identity(), **options).double()


def drawn():
    generator = np.random.default_rng(0)
    return generator.normal(size=(6, 4)), generator.normal(size=(5, 4))


def test_gradient_descent_from_the_class_means():
    """d cos(x, w) / dw = (x - cos(x, w) w / |w|) / |w|, for x of length 1."""
    x, query = drawn()
    support = unit(x)
    weights = np.array([support[k == Y].mean(0) for k in range(3)])
    for _ in range(7):
        cosines, lengths = support @ unit(weights).T, np.linalg.norm(weights, axis=1)
        p = np.exp(4 * cosines)
        slopes = 4 * (p / p.sum(1, keepdims=True) - np.eye(3)[Y]) / len(Y)
        moved = [
            sum(slopes[i, k] * (support[i] - cosines[i, k] * unit(weights)[k]) / lengths[k] for i in range(len(Y)))
            for k in range(3)
        ]
        weights = weights - 0.3 * np.array(moved)
    head = make(scale=4.0, lr=0.3, steps=7)
    state = head.adapt(torch.tensor(x), torch.tensor(Y))
    np.testing.assert_allclose(state["fitted"], weights, rtol=1e-9)
    np.testing.assert_allclose(head.predict(state, torch.tensor(query)), 4 * unit(unit(query)) @ unit(weights).T)


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_trains_and_leaves_no_graph_wherever_it_is_called(guard):
    x, _ = (torch.tensor(rows) for rows in drawn())
    expected = make().adapt(x.requires_grad_(), torch.tensor(Y))["fitted"]
    assert expected.requires_grad  # the network in front of it is to learn
    with guard():
        found = make().adapt(x.detach(), torch.tensor(Y))["fitted"]
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach())


def test_a_network_learns_through_the_steps():
    x, query = (torch.tensor(rows) for rows in drawn())
    head = make(steps=3)

    def scored(support, query):
        return head.predict(head.adapt(support, torch.tensor(Y)), query)

    assert torch.autograd.gradcheck(scored, (x.requires_grad_(), query.requires_grad_()))


@pytest.mark.parametrize("options", [{"scale": 0.0}, {"lr": -1.0}, {"lr": float("nan")}, {"steps": 0}])
def test_bad_options(options):
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        make(**options)
