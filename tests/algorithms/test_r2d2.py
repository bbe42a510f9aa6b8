"""The ridge head against NumPy."""

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_kit import algorithms
from fewshot_kit.errors import InputError


@pytest.mark.parametrize("width", [3, 12])  # fewer and more than the examples
def test_the_head_is_the_ridge_solution(width):
    generator = np.random.default_rng(0)
    x, query, y = generator.normal(size=(6, width)), generator.normal(size=(4, width)), np.array([0, 1, 2, 0, 1, 2])
    r2d2 = algorithms.create("r2d2", model=nn.Identity(), penalty=0.7).double()
    state = r2d2.adapt(torch.tensor(x), torch.tensor(y))
    weights = np.linalg.solve(x.T @ x + 0.7 * np.eye(width), x.T @ np.eye(3)[y])
    np.testing.assert_allclose(state["weights"].detach().numpy(), weights, rtol=1e-6)
    with torch.no_grad():
        r2d2.scale.fill_(2.0)
        np.testing.assert_allclose(r2d2.predict(state, torch.tensor(query)), 2 * query @ weights, rtol=1e-6)


def test_what_is_learned_across_tasks_gets_its_slope():
    """By finite differences: the penalty, through the solution, and the scale."""
    generator = torch.Generator().manual_seed(0)
    x, query = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (6, 4))
    r2d2 = algorithms.create("r2d2", model=nn.Identity(), penalty=0.5).double()
    y, targets = torch.tensor([0, 1, 2] * 2), torch.tensor([0, 1, 2, 0])

    def loss(log_penalty, scale):
        values = {"log_penalty": log_penalty, "scale": scale}
        scores = torch.func.functional_call(Scores(r2d2), {f"r2d2.{n}": v for n, v in values.items()}, (x, y, query))
        return nn.functional.cross_entropy(scores, targets)

    inputs = [p.detach().clone().requires_grad_() for p in (r2d2.log_penalty, r2d2.scale)]
    assert torch.autograd.gradcheck(loss, inputs)


class Scores(nn.Module):
    def __init__(self, r2d2):
        super().__init__()
        self.r2d2 = r2d2

    def forward(self, x, y, query):
        return self.r2d2.predict(self.r2d2.adapt(x, y), query)


@pytest.mark.parametrize("penalty", [0.0, -1.0, float("nan")])
def test_a_penalty_that_is_none(penalty):
    with pytest.raises(InputError, match=f"penalty is {penalty}; it must be a positive number"):
        algorithms.create("r2d2", model=nn.Identity(), penalty=penalty)
