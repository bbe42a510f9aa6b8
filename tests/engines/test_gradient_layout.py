"""Gradients lie in memory as their parameters do: a fused Adam on a CPU goes by the memory alone."""

import copy

import pytest
import torch

from fewshot_kit import algorithms, engines, models
from fewshot_kit.episodes import Episode


@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_one_step_is_that_of_plain_adam(engine, tasks):
    """With one episode the loop's gradients came channels-last, and every filter was moved along another's slopes."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(tasks, 6, 1, 14, 14, generator=generator), torch.arange(3).repeat(tasks, 2)
    fused = algorithms.create("maml", model=models.create("cnn", ways=3, hidden=8, image_size=14, seed=0), lr=0.1)
    plain = copy.deepcopy(fused)
    for algorithm, how in ((fused, True), (plain, False)):
        optimizer = torch.optim.Adam(algorithm.parameters(), lr=0.01, fused=how)
        for _ in range(3):
            optimizer.zero_grad()
            engines.meta_backward(algorithm.train(), Episode(x, y, x, y), engine)
            optimizer.step()
        for parameter in algorithm.parameters():
            assert parameter.grad.stride() == parameter.stride()
    for one, other in zip(fused.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
