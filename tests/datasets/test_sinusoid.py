"""Sine waves: the ranges of MAML's section 5.1, and a regression run on them."""

import math

import pytest
import torch

from fewshot_kit import algorithms, datasets, evaluate, models
from fewshot_kit.datasets.sinusoid import wave
from fewshot_kit.errors import InputError


def test_waves_have_the_papers_ranges():
    episodes = datasets.create("sinusoid").train.episodes(1, 10, 5, 4000, torch.Generator().manual_seed(0))
    assert episodes.support_x.shape == (4000, 10, 1) and episodes.query_y.shape == (4000, 5)
    x, y = (
        torch.cat([episodes.support_x[..., 0], episodes.query_x[..., 0]], 1),
        torch.cat([episodes[1], episodes[3]], 1),
    )
    assert -5 <= x.min() < -4.99 and 4.99 < x.max() <= 5
    assert 4.9 < y.abs().max() <= 5
    # Every task is one wave a sin(x - p) = c sin(x) + d cos(x): two numbers explain its fifteen points.
    basis = torch.stack([x.sin(), x.cos()], -1).double()
    solved = torch.linalg.lstsq(basis, y.double()[..., None]).solution[..., 0]
    torch.testing.assert_close((basis @ solved[..., None])[..., 0], y.double(), rtol=1e-4, atol=1e-4)
    amplitude, phase = solved.norm(dim=1), torch.atan2(-solved[:, 1], solved[:, 0])
    assert 0.09 < amplitude.min() < 0.12 and amplitude.mean() == pytest.approx(2.55, abs=0.1)
    assert phase.min() > -0.01 and phase.max() < math.pi + 0.01 and phase.mean() == pytest.approx(math.pi / 2, abs=0.05)


def test_a_wave_by_hand():
    assert wave(torch.tensor(math.pi / 2), 2.0, math.pi / 2).item() == 0
    assert wave(torch.tensor(math.pi), 2.0, math.pi / 2).item() == pytest.approx(2)


def test_frequencies_that_vary():
    """Found again by least squares; amplitude, phase and points are what they are without."""
    plain, varied = (
        datasets.create("sinusoid", frequency_spread=spread).train.episodes(
            1, 2000, 1, 200, torch.Generator().manual_seed(0)
        )
        for spread in (0.0, 0.2)
    )
    x, y = varied.support_x[..., 0].double(), varied.support_y.double()
    assert torch.equal(plain.support_x, varied.support_x)
    tried = torch.linspace(0.75, 1.25, 101, dtype=torch.float64)
    best = []
    for frequency in tried:  # the wave that explains all points has the task's frequency
        basis = torch.stack([(frequency * x).sin(), (frequency * x).cos()], -1)
        solved = torch.linalg.lstsq(basis, y[..., None]).solution
        best.append(((basis @ solved)[..., 0] - y).square().mean(1))
    found = tried[torch.stack(best).argmin(0)]
    assert 0.795 <= found.min() < 0.83 and 1.17 < found.max() <= 1.205 and abs(found.mean() - 1) < 0.03
    assert wave(torch.tensor(math.pi), 2.0, 0.0, 0.5).item() == pytest.approx(2)
    with pytest.raises(InputError, match="frequency_spread is 2; frequencies"):
        datasets.create("sinusoid", frequency_spread=2)


def test_a_seed_gives_the_same_waves():
    split = datasets.create("sinusoid").test
    one, other = (split.episodes(1, 3, 2, 4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(map(torch.equal, one, other))


def test_steps_bring_the_error_of_a_regressor_down():
    data = datasets.create("sinusoid")
    found = []
    for steps in (0, 20):
        maml = algorithms.create("maml", model=models.create("mlp", seed=0), lr=0.01, steps=steps)
        found.append(evaluate(maml, data.test, ways=1, shots=10, queries=20, episodes=20))
    assert found[0].measure == "mse" and found[1].mse < 0.9 * found[0].mse


def test_more_than_one_wave_in_a_task():
    with pytest.raises(InputError, match="is one wave, not 5; take ways=1. Shots are points"):
        datasets.create("sinusoid").train.check(5, 1, 1)
    with pytest.raises(InputError, match="shots is 0"):
        datasets.create("sinusoid").train.check(1, 0, 1)
