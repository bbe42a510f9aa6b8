"""Squared distances by products against differences in float64, and their derivatives."""

import pytest
import torch
from torch import nn

from fewshot_kit import algorithms
from fewshot_kit.algorithms.bases.distances import distances_of_units, squared_distances


def differences(features, means):
    return (features[:, None] - means[None]).square().sum(-1)


def drawn(rows, seed, size=64):
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def off(found, exact):
    """The largest error, in terms of the largest distance."""
    return float((found.double() - exact).abs().max() / exact.max())


@pytest.mark.parametrize("offset", [0.0, 10.0, 1e4])
@pytest.mark.parametrize("spread", [1e-3, 1.0, 1e3])
def test_a_common_offset_costs_no_digits(offset, spread):
    features, means = ((spread * (offset + drawn(rows, rows))).float() for rows in (40, 5))
    exact = differences(features.double(), means.double())
    assert off(squared_distances(features, means), exact) < 1e-6
    if offset > 1000:  # without the centring
        assert off(distances_of_units(features, means), exact) > 0.1


def test_a_far_class_leaves_the_near_ones_apart():
    """Three class means at 0, 1 and 300 on a line: the query's own class still wins, and by the right margin."""
    means = torch.zeros(3, 64)
    means[:, 0] = torch.tensor([0.0, 1.0, 300.0])
    features = means + 0.01 * drawn(3, 0).float()
    exact = differences(features.double(), means.double())
    found = squared_distances(features, means)
    assert found.argmin(1).tolist() == [0, 1, 2]
    torch.testing.assert_close(found[:2, 1] - found[:2, 0], (exact[:2, 1] - exact[:2, 0]).float(), rtol=0.05, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("offset", [0.0, 8.0])
def test_halves_are_no_worse_than_differences(dtype, offset):
    features, means = ((offset + drawn(rows, rows)).to(dtype) for rows in (40, 5))
    exact = differences(features.double(), means.double())
    found = squared_distances(features, means)
    assert found.dtype == dtype and off(found, exact) <= off(differences(features, means), exact)


def test_first_and_second_derivatives_are_those_of_differences():
    features, means = drawn(4, 1, 3).requires_grad_(), drawn(2, 2, 3).requires_grad_()
    weights = drawn(4, 3, 2)

    def both(way):
        return torch.autograd.grad((weights * way(features, means).exp()).sum(), (features, means), create_graph=True)

    for found, exact in zip(both(squared_distances), both(differences), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-10)
    assert torch.autograd.gradgradcheck(squared_distances, (features, means))


def test_at_distance_zero_the_slope_is_zero_and_the_curvature_two():
    point = (1e3 + drawn(1, 0)).float()
    for means in (point, torch.cat([point, point + 1])):
        slope = torch.func.grad(lambda x, means=means: squared_distances(x, means)[0, 0])(point)
        torch.testing.assert_close(slope, torch.zeros_like(point), rtol=0, atol=1e-4)
    curvature = torch.func.jacrev(torch.func.grad(lambda x: squared_distances(x[None], point)[0, 0]))(point[0])
    torch.testing.assert_close(curvature, 2 * torch.eye(64))


def test_many_tasks_at_once_with_slopes():
    features, means = drawn(6, 1).view(3, 2, 64), drawn(12, 2).view(3, 4, 64)

    def slopes(way):
        loss = torch.func.grad(lambda x, m: way(x, m).sin().sum(), argnums=(0, 1))
        return torch.func.vmap(loss)(features, means)

    for found, exact in zip(slopes(squared_distances), slopes(differences), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["protonet", "nearest_centroid"])
def test_the_algorithms_take_features_with_an_offset(name):
    """A task in float32 is scored as in float64, though its features are at 10,000 in every direction."""
    x, query, y = 1e4 + drawn(6, 1), 1e4 + drawn(9, 2), torch.arange(3).repeat(2)
    algorithm = algorithms.create(name, model=nn.Identity())
    x, query = x.float(), query.float()
    single, double = (
        algorithm.predict(algorithm.adapt(x.to(dtype), y), query.to(dtype)) for dtype in (torch.float32, torch.float64)
    )
    torch.testing.assert_close(single.double(), double, rtol=1e-2, atol=0)
    assert torch.equal(single.argmax(1), double.argmax(1))


def test_whole_numbers_are_features_too():
    protonet = algorithms.create("protonet", model=nn.Identity())
    state = protonet.adapt(torch.tensor([[0, 0], [1, 4]]), torch.tensor([0, 1]))
    assert protonet.predict(state, torch.tensor([[1, 1]])).tolist() == [[-2.0, -9.0]]
