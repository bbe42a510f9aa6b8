"""ANIL with a head in closed form against NumPy: ridge regression that stays close to the learned head."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import adapt, algorithms, engines, models
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError


def network(bias=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3, bias=bias)).double()


def task(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return x, torch.tensor([0, 1, 2, 0, 1, 2])


def closed(model, **options):
    return algorithms.create("anil", model=model, closed_form=True, **options)


@pytest.mark.parametrize("bias", [True, False])
def test_the_head_is_the_ridge_regression_nearest_to_the_learned_one(bias):
    """By the normal equations in D x D, where the kit solves S x S."""
    model, (x, y) = network(bias), task()
    state = closed(model, penalty=0.3).adapt(x, y)
    features = np.tanh(x.numpy() @ model[0].weight.detach().numpy().T + model[0].bias.detach().numpy())
    start = model[2].weight.detach().numpy()
    if bias:
        features = np.hstack([features, np.ones((6, 1))])
        start = np.hstack([start, model[2].bias.detach().numpy()[:, None]])
    left = features.T @ features + 0.3 * np.eye(features.shape[1])
    solved = np.linalg.solve(left, features.T @ (10 * np.eye(3)[y]) + 0.3 * start.T).T
    names = ["2.weight", "2.bias"][: 1 + bias]
    found = [state["parameters"][name].detach().numpy() for name in names]
    np.testing.assert_allclose(np.hstack([found[0], *(part[:, None] for part in found[1:])]), solved, rtol=1e-9)


def test_a_large_penalty_keeps_the_learned_head_and_a_small_one_fits_the_support_set():
    model, (x, y) = network(), task()
    kept = closed(model, penalty=1e12).adapt(x, y)["parameters"]["2.weight"]
    torch.testing.assert_close(kept, model[2].weight, rtol=0, atol=1e-8)
    fitted = closed(model, penalty=1e-9)
    torch.testing.assert_close(fitted.predict(fitted.adapt(x, y), x), 10 * F.one_hot(y).double(), rtol=0, atol=1e-4)


def test_float_targets_are_taken_as_they_are():
    model = models.create("mlp", inputs=4, hidden=(8,), seed=0).double()
    algorithm, (x, _) = closed(model, penalty=1e-9), task()
    target = torch.linspace(-1, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(algorithm.predict(algorithm.adapt(x, target), x).flatten(), target, rtol=0, atol=1e-4)


def test_penalty_and_height_are_learned_and_engines_agree():
    algorithm, found = closed(network()), []
    (x, y), (more, _) = task(0), task(1)
    batch = Episode(torch.stack([x, more]), torch.stack([y, y]), torch.stack([more, x]), torch.stack([y, y]))
    for engine in ("loop", "vmap"):
        algorithm.zero_grad()
        engines.meta_backward(algorithm, batch, engine)
        found.append([p.grad.clone() for p in algorithm.parameters()])
    assert all(gradient.any() for gradient in found[0])
    assert {"log_penalty", "height"} <= {name for name, _ in algorithm.named_parameters()}
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_adapts_a_plain_module():
    learner = adapt(network(), (task()[0], list("abcabc")), algorithm="anil", closed_form=True, penalty=1e-6)
    assert learner.predict(task()[0]) == list("abcabc")


class Doubled(nn.Module):
    """Does something with what its head gives."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return 2 * self.head(x)


def frozen():
    model = network()
    model[2].weight.requires_grad_(False)
    return model


@pytest.mark.parametrize(
    "model, options, said",
    [
        (network(), {"first_order": True}, "A head in closed form has no first order; leave first_order=True"),
        (network(), {"penalty": 0.0}, "penalty is 0.0; it must be a positive number."),
        (network(), {"head": "1"}, "'1' is a Tanh; a head in closed form must be linear."),
    ],
)
def test_what_cannot_be_made(model, options, said):
    with pytest.raises(InputError, match=said):
        closed(model, **options)


@pytest.mark.parametrize(
    "model, said",
    [
        (Doubled().double(), "Doubled does not end with its head 'head', which closed_form=True needs."),
        (frozen(), "The weight of '2' is frozen or tied; a head in closed form must be free."),
    ],
)
def test_what_cannot_be_adapted(model, said):
    with pytest.raises(InputError, match=said):
        closed(model).adapt(*task())


def test_it_follows_no_loss():
    with pytest.raises(InputError, match="does not follow a loss"):
        closed(network()).clone()
