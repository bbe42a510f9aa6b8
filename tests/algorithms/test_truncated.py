"""The meta-gradient through the last inner steps alone, against a written-out statement of it."""

import pytest
import torch
from engine_world import assert_same, build, gradients, maml, meta_batch
from test_gradients import LR, NAMES, batch, forward, network
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.errors import InputError

STEPS = 4


def expected(truncate, task):
    """Products of (I - lr H) at the last `truncate` iterates with the query loss's slope at the end, as one vector.

    Shaban et al. (2019), equations 5 and 6, with the identity in place of the Jacobians of the earlier steps.
    """
    shapes = [(name, p.shape) for name, p in network().named_parameters()]

    def named(flat):
        parts = flat.split([shape.numel() for _, shape in shapes])
        return {name: part.view(shape) for (name, shape), part in zip(shapes, parts, strict=True)}

    def support(flat):
        return F.cross_entropy(forward(named(flat), task.support_x), task.support_y)

    def query(flat):
        return F.cross_entropy(forward(named(flat), task.query_x), task.query_y)

    iterates = [torch.cat([p.detach().flatten() for p in network().parameters()])]
    for _ in range(STEPS):
        iterates.append(iterates[-1] - LR * torch.func.grad(support)(iterates[-1]))
    found = torch.func.grad(query)(iterates.pop())
    for at in reversed(iterates[STEPS - truncate :]):
        found = found - LR * torch.func.vjp(torch.func.grad(support), at)[1](found)[0]
    return found


@pytest.mark.parametrize("engine", ["loop", "vmap"])
@pytest.mark.parametrize("truncate", [0, 1, 3, 4])
def test_it_is_the_product_of_the_last_jacobians(engine, truncate):
    algorithm = algorithms.create("maml", model=network(), lr=LR, steps=STEPS, truncate=truncate)
    engines.meta_backward(algorithm, batch(), engine)
    found = torch.cat([p.grad.flatten() for p in algorithm.model.parameters()])
    wanted = torch.stack([expected(truncate, task) for task in unstack(batch())]).mean(0)
    assert [name for name, _ in algorithm.model.named_parameters()] == NAMES
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["maml", "boil", "cavia", "meta_sgd", "meta_curvature", "meta_lstm"])
def test_all_steps_are_the_full_gradient(name):
    found = []
    for options in ({}, {"truncate": 3}, {"truncate": 5}):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            algorithm = algorithms.create(name, model=build("conv4", torch.float64), lr=0.1, steps=3, **options)
        found.append(gradients(algorithm.double(), meta_batch()))
    assert_same(found[0], found[1], rtol=0, atol=0)
    assert_same(found[0], found[2], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["maml", "anil", "boil"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_steps_are_first_order(name, optimizer):
    found = []
    for options in ({"first_order": True}, {"truncate": 0}, {"truncate": 0, "checkpoint": True}):
        model = build("conv4", torch.float64)
        options |= {"optimizer": optimizer, "lr": 0.1 if optimizer == "sgd" else 0.01}
        found.append(gradients(algorithms.create(name, model=model, steps=3, **options), meta_batch()))
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])


def test_learned_rates_learn_from_the_last_steps():
    """One truncated step of three is one step from where two plain ones led to, as to the rates and the slope."""
    x, y, queries, targets = (tensor[0] for tensor in meta_batch(1))
    algorithm = algorithms.create("meta_sgd", model=build("mlp", torch.float64), lr=0.1, steps=3, truncate=1).double()
    loss, _ = algorithm.loss(Episode(x, y, queries, targets))
    loss.backward()
    plain = algorithms.create("meta_sgd", model=build("mlp", torch.float64), lr=0.1, steps=2).double()
    with torch.no_grad():
        there = plain.adapt(x, y)["parameters"]
        for name, p in plain.model.named_parameters():
            p.copy_(there[name])
    plain.steps = 1
    plain.loss(Episode(x, y, queries, targets))[0].backward()
    assert_same(*([p.grad for p in each.parameters()] for each in (algorithm, plain)))


def test_buffers_are_those_of_all_steps():
    """The state of the task is that of the full loop, without a graph where none is asked for."""
    x, y = (tensor[0] for tensor in meta_batch(1)[:2])
    full, cut = (maml(steps=4, batch_norm="running", truncate=k).adapt(x, y) for k in (None, 2))
    assert all(torch.equal(full["parameters"][name], p) for name, p in cut["parameters"].items())
    assert all(torch.equal(full["buffers"][name], b) for name, b in cut["buffers"].items())
    with torch.no_grad():
        state = maml(steps=4, truncate=2).adapt(x, y)
    assert not any(p.requires_grad for p in state["parameters"].values())


@pytest.mark.parametrize(
    "name, options, said",
    [
        ("maml", {"truncate": -1}, "truncate is -1; it must be a whole number of at least 0"),
        ("maml", {"truncate": True}, "truncate is True; it must be a whole number"),
        ("meta_sgd", {"truncate": 0}, "truncate is 0; it must be a whole number of at least 1"),
        ("maml_plus_plus", {"truncate": 2}, r"MAML\+\+ learns from the loss after every step; leave truncate=2 out"),
    ],
)
def test_what_cannot_be_is_named(name, options, said):
    with pytest.raises(InputError, match=said):
        algorithms.create(name, model=build("mlp", torch.float64), **options)


def test_the_libraries_learners_cannot():
    with pytest.raises(InputError, match="keep the graph of all steps, and truncate is 2; use adapt"):
        engines.meta_backward(maml(truncate=2), meta_batch(), "reference")
