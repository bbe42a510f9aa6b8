"""Matching networks against NumPy, by the paper's equations."""

import numpy as np
import pytest
import torch
from engine_world import meta_batch
from torch import nn

from fewshot_kit import algorithms, engines, models
from fewshot_kit.errors import InputError

RANDOM = np.random.default_rng(0)
X, QUERY, Y = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(3, 4)), np.array([0, 1, 0, 1, 2])


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def softmax(rows):
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(cell, x, h, c):
    weights = [p.detach().numpy() for p in (cell.weight_ih, cell.bias_ih, cell.weight_hh, cell.bias_hh)]
    i, f, g, o = np.split(x @ weights[0].T + weights[1] + h @ weights[2].T + weights[3], 4, axis=1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_attention_over_cosines():
    matching = algorithms.create("matching_net", model=nn.Identity(), scale=2.0)
    scores = matching.predict(matching.adapt(torch.tensor(X), torch.tensor(Y)), torch.tensor(QUERY))
    np.testing.assert_allclose(scores.exp(), softmax(2 * unit(QUERY) @ unit(X).T) @ np.eye(3)[Y], rtol=1e-9)
    np.testing.assert_allclose(scores.exp().sum(1), 1)


def test_full_context():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        matching = algorithms.create(
            "matching_net", model=nn.Identity(), full_context=True, reads=2, scale=1.0, width=4
        ).double()
    ahead, behind = [], []
    for cell, rows, found in ((matching.forwards, X, ahead), (matching.backwards, X[::-1], behind)):
        h = c = np.zeros((1, 4))
        for row in rows:
            h, c = lstm(cell, row[None], h, c)
            found.append(h[0])
    support = X + np.array(ahead) + np.array(behind)[::-1]
    h, c, read = QUERY, np.zeros_like(QUERY), np.zeros_like(QUERY)
    for _ in range(2):
        h, c = lstm(matching.reader, np.concatenate([QUERY, read], 1), h, c)
        h = h + QUERY
        read = softmax(h @ support.T) @ support
    expected = softmax(unit(h) @ unit(support).T) @ np.eye(3)[Y]
    scores = matching.predict(matching.adapt(torch.tensor(X), torch.tensor(Y)), torch.tensor(QUERY))
    np.testing.assert_allclose(scores.exp().detach(), expected, rtol=1e-7)


def test_full_context_is_trained_and_vectorised():
    model = models.create("conv4", ways=3, hidden=4, image_size=14, seed=0)
    matching = algorithms.create("matching_net", model=model, full_context=True).double()
    batch, found = meta_batch(3, queries=3), []
    for engine in ("loop", "vmap"):
        matching.zero_grad()
        engines.meta_backward(matching, batch, engine)
        found.append([p.grad.clone() for p in matching.parameters()])
    assert all(
        gradient.any()
        for name, gradient in zip(dict(matching.named_parameters()), found[0], strict=True)
        if not name.endswith("0.bias")
    )  # before batch norm a bias has a slope of zero
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_a_width_that_is_not_known():
    with pytest.raises(InputError, match="Identity has no linear head; say how wide its embedding is"):
        algorithms.create("matching_net", model=nn.Identity(), full_context=True)
    with pytest.raises(InputError, match="reads is 0"):
        algorithms.create("matching_net", model=nn.Identity(), reads=0)
