"""Checks of a network for the algorithms."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from ..algorithms import MAML
from ..seeds import kept_random
from .algorithm import SHAPE, WAYS
from .comparing import close, same, snapshot


def check_model(make: Callable[[int], nn.Module], example_shape: tuple[int, ...] = SHAPE) -> None:
    """Checks everything that algorithms need from a classifying network.

    Args:
        make: `make(ways) -> nn.Module`.
        example_shape: shape of one example, without the batch.

    Raises:
        AssertionError: the first check that fails.
    """
    with kept_random(torch.device("cpu")):
        x = torch.rand(4, *example_shape, generator=torch.Generator().manual_seed(0))
        for ways in (2, 5):
            scores = make(ways).eval()(x)
            assert scores.shape == (4, ways), f"With ways={ways} it gives {list(scores.shape)} for 4 examples."
        model = make(WAYS).double().eval()
        scores = model(x.double())
        assert scores.dtype == torch.float64, f"In float64 it gives {scores.dtype}; make no tensors of a fixed dtype."
        alone = torch.cat([model(one[None].double()) for one in x])
        close(alone, scores, "In eval mode an example's scores depend on those beside it")
        before = snapshot(model)
        model(x.double())
        same(before, snapshot(model), "A forward pass in eval mode")
        close(copy.deepcopy(model)(x.double()), scores, "A deep copy gives other scores")
        y = torch.arange(4) % WAYS
        algorithm = MAML(model, lr=0.1)
        state = algorithm.adapt(x.double(), y)
        assert any((p != dict(model.named_parameters())[n]).any() for n, p in state["parameters"].items()), (
            "An inner step moves no parameter: the scores do not depend on any."
        )
