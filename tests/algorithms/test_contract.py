"""The contract that every registered algorithm keeps. No algorithm is named here."""

import pytest
import torch

from fewshot_kit import algorithms
from fewshot_kit.seeds import kept_random
from fewshot_kit.testing import ALGORITHM_CHECKS
from fewshot_kit.testing.algorithm import meta_batch, small_network


@pytest.mark.parametrize("name", algorithms.names())
@pytest.mark.parametrize("check", ALGORITHM_CHECKS, ids=lambda check: check.__name__)
def test_every_algorithm_keeps_the_contract(check, name):
    with kept_random(torch.device("cpu")):
        check(lambda model: algorithms.create(name, model=model))


@pytest.mark.parametrize("name", algorithms.names())
def test_adapting_moves_no_stored_statistics(name):
    """In training mode neither, where a plain network's would move: an algorithm of the kit has a policy."""
    algorithm = algorithms.create(name, model=small_network().double()).train()
    before = {key: tensor.clone() for key, tensor in algorithm.state_dict().items()}
    x, y, queries, _ = (tensor[0] for tensor in meta_batch(1))
    algorithm.predict(algorithm.adapt(x, y), queries)
    assert all(torch.equal(before[key], tensor) for key, tensor in algorithm.state_dict().items())
