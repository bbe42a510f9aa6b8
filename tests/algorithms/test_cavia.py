"""CAVIA against its update written out, and what it modulates."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, models
from fewshot_kit.errors import InputError
from fewshot_kit.modules.film import find_modulated


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()


def forward(model, x, by):
    scale, shift = by.chunk(2)
    return model[2](torch.tanh((1 + scale) * model[0](x) + shift))


def test_the_context_is_adapted_by_gradient_steps_and_nothing_else_is():
    model, generator = network(), torch.Generator().manual_seed(1)
    x, query = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (6, 4))
    y = torch.tensor([0, 1, 2] * 2)
    cavia = algorithms.create("cavia", model=model, lr=0.7, steps=2, context=8)
    assert cavia.film == "0"
    state = cavia.adapt(x, y)
    context = torch.zeros(8, dtype=torch.float64, requires_grad=True)
    for _ in range(2):
        loss = F.cross_entropy(forward(model, x, cavia.modulation(context)), y)
        (slope,) = torch.autograd.grad(loss, context)
        context = (context - 0.7 * slope).detach().requires_grad_()
    assert list(state["parameters"]) == ["context"]
    torch.testing.assert_close(state["parameters"]["context"].detach(), context.detach())
    torch.testing.assert_close(cavia.predict(state, query), forward(model, query, cavia.modulation(context)))
    assert state["parameters"]["context"].abs().max() > 1e-3


def test_which_layer_is_modulated():
    conv4 = models.create("conv4", ways=5, hidden=6)
    assert find_modulated(conv4) == ("blocks.3.1", 6)
    assert find_modulated(conv4, "blocks.2.0") == ("blocks.2.0", 6)
    with pytest.raises(InputError, match=r"no layer 'blocks.7'"):
        find_modulated(conv4, "blocks.7")
    with pytest.raises(InputError, match=r"The layer 'blocks.0.2' is a ReLU, which does not say how many channels"):
        find_modulated(conv4, "blocks.0.2")
    with pytest.raises(InputError, match="Linear has no layer before its head"):
        find_modulated(nn.Linear(2, 2))
