"""Prototypical networks against NumPy, by the paper's equations."""

import numpy as np
import pytest
import torch
from engine_world import meta_batch
from torch import nn

from fewshot_kit import adapt, algorithms, engines, models
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

X = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0], [1.0, 4.0]], dtype=torch.float64)
Y = torch.tensor([0, 0, 1, 1])
QUERY = torch.tensor([[1.0, 1.0], [0.5, 3.0]], dtype=torch.float64)


def test_prototypes_and_distances_by_hand():
    protonet = algorithms.create("protonet", model=nn.Identity())
    state = protonet.adapt(X, Y)
    assert state["prototypes"].tolist() == [[1.0, 0.0], [0.5, 4.0]]
    assert protonet.predict(state, QUERY).tolist() == [[-1.0, -9.25], [-9.25, -1.0]]


def test_cosine_against_numpy():
    protonet = algorithms.create("protonet", model=nn.Identity(), distance="cosine", scale=3.0)
    prototypes, query = np.array([[1.0, 0.0], [0.5, 4.0]]), QUERY.numpy()
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (query, prototypes)]
    np.testing.assert_allclose(protonet.predict(protonet.adapt(X, Y), QUERY), 3 * unit[0] @ unit[1].T)


def test_the_loss_is_the_papers():
    """Equation 2 and the negative log-probability, written out."""
    protonet = algorithms.create("protonet", model=nn.Identity())
    loss, _ = protonet.loss(Episode(X, Y, QUERY, torch.tensor([0, 1])))
    assert loss.item() == pytest.approx(np.log(1 + np.exp(-8.25)))


def test_the_head_is_left_out_and_the_rest_is_shared():
    model = models.create("conv4", ways=3, hidden=4, image_size=14)
    protonet = algorithms.create("protonet", model=model)
    names = {name for name, _ in model.named_parameters()}
    assert {name for name, _ in protonet.model.named_parameters()} == names - {"head.weight", "head.bias"}
    assert protonet.model.blocks is model.blocks and isinstance(model.head, nn.Linear)
    assert protonet.adapt(torch.rand(6, 1, 14, 14), torch.arange(6))["prototypes"].shape == (6, 4)


def test_tasks_of_other_ways_than_it_was_trained_with():
    learner = adapt(algorithms.create("protonet", model=nn.Identity()), (X.float(), ["a", "a", "b", "b"]))
    assert learner.predict(QUERY.float()) == ["a", "b"]


@pytest.mark.parametrize("policy", ["transductive", "support", "running"])
def test_every_engine_gives_the_same(policy):
    model = models.create("conv4", ways=3, hidden=4, image_size=14, seed=0).double()
    protonet = algorithms.create("protonet", model=model, batch_norm=policy)
    batch, found = meta_batch(4, queries=3), []
    for engine in ("loop", "vmap"):
        protonet.zero_grad()
        engines.meta_backward(protonet, batch, engine)
        found.append([p.grad.clone() for p in protonet.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_with_the_support_policy_a_query_stands_alone():
    protonet = algorithms.create(
        "protonet", model=models.create("conv4", hidden=4, image_size=14), batch_norm="support"
    )
    generator = torch.Generator().manual_seed(0)
    support, query = (torch.rand(n, 1, 14, 14, generator=generator) for n in (6, 5))
    state = protonet.adapt(support, torch.arange(3).repeat(2))
    torch.testing.assert_close(protonet.predict(state, query)[:1], protonet.predict(state, query[:1]))


def test_an_unknown_distance():
    with pytest.raises(InputError, match="no distance 'manhattan'; it is one of euclidean, cosine"):
        algorithms.create("protonet", model=nn.Identity(), distance="manhattan")
