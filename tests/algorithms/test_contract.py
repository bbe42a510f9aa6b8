"""The contract that every registered algorithm keeps. No algorithm is named here."""

import copy

import pytest
import torch
from torch.nn import functional as F

from fewshot_kit import algorithms, engines, models
from fewshot_kit.episodes import Episode, unstack

ROUNDING = 2e-9  # an inner Adam divides a slope that is zero but for rounding by 1e-8
EVERY = pytest.mark.parametrize("name", algorithms.names())


def make(name, ways=3, dtype=torch.float32):
    model = models.create("conv4", ways=ways, hidden=6, image_size=14, seed=1).to(dtype)
    return algorithms.create(name, model=model)


def meta_batch(tasks=2, ways=3, shots=2, queries=3, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = [torch.arange(ways).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.rand(tasks, ways * n, 1, 14, 14, generator=generator, dtype=dtype) for n in (shots, queries)]
    return Episode(x[0], y[0], x[1], y[1])


def snapshot(algorithm):
    """Everything about an algorithm that adapting must leave alone."""
    return {
        "tensors": copy.deepcopy(algorithm.state_dict()),
        "modes": [m.training for m in algorithm.modules()],
        "trainable": [p.requires_grad for p in algorithm.parameters()],
        "gradients": [p.grad is None for p in algorithm.parameters()],
        "attributes": [set(vars(m)) for m in algorithm.modules()],
        "random": torch.get_rng_state(),
    }


def assert_same(before, after):
    for key in ("modes", "trainable", "gradients", "attributes"):
        assert before[key] == after[key], key
    assert torch.equal(before["random"], after["random"])
    assert before["tensors"].keys() == after["tensors"].keys()
    assert all(torch.equal(before["tensors"][k], after["tensors"][k]) for k in before["tensors"])


@EVERY
@pytest.mark.parametrize("ways, shots, queries", [(2, 1, 1), (3, 2, 4), (5, 5, 2)])
def test_support_to_scores(name, ways, shots, queries):
    algorithm, [task] = make(name, ways), unstack(meta_batch(1, ways, shots, queries))
    scores = algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x)
    assert scores.shape == (ways * queries, ways)
    assert scores.isfinite().all()


@EVERY
@pytest.mark.parametrize("training", [True, False])
def test_adapting_and_predicting_change_nothing(name, training):
    algorithm, [task] = make(name).train(training), unstack(meta_batch(1))
    for parameter in algorithm.model.parameters():  # a mixture, to see that it is kept
        parameter.requires_grad_(False)
        break
    before = snapshot(algorithm)
    state = algorithm.adapt(task.support_x, task.support_y)
    first = algorithm.predict(state, task.query_x)
    assert_same(before, snapshot(algorithm))
    assert torch.equal(first, algorithm.predict(state, task.query_x))  # nor does predicting change the state


@EVERY
def test_tasks_do_not_overwrite_each_other(name):
    algorithm, tasks = make(name), unstack(meta_batch(2))
    alone = [algorithm.predict(algorithm.adapt(t.support_x, t.support_y), t.query_x) for t in tasks]
    states = [algorithm.adapt(t.support_x, t.support_y) for t in tasks]
    together = [algorithm.predict(s, t.query_x) for s, t in zip(states, tasks, strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert not torch.equal(*alone)


@EVERY
@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_adapts_without_gradients_around_it(name, guard):
    algorithm, [task] = make(name).eval(), unstack(meta_batch(1))
    expected = algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x)
    with guard():
        scores = algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x)
    assert not scores.requires_grad
    torch.testing.assert_close(scores, expected.detach())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_trainable_tensor_receives_a_gradient(name, dtype):
    algorithm = make(name, dtype=dtype).train()
    losses, scores = engines.meta_backward(algorithm, meta_batch(dtype=dtype), "loop")
    assert losses.shape == (2,) and losses.isfinite().all() and losses.dtype == dtype
    assert scores.shape == (2, 9, 3) and not losses.requires_grad and not scores.requires_grad
    without = [n for n, p in algorithm.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # A convolution's bias before batch norm with batch statistics has a gradient of zero in exact arithmetic.
    zero = [n for n, p in algorithm.named_parameters() if not p.grad.any()]
    assert all(n.endswith("bias") for n in zero)


@EVERY
def test_the_meta_gradient_is_the_mean_over_tasks(name):
    algorithm, batch = make(name, dtype=torch.float64).train(), meta_batch(3, dtype=torch.float64)
    engines.meta_backward(algorithm, batch, "loop")
    together = [p.grad.clone() for p in algorithm.parameters()]
    algorithm.zero_grad()
    for task in unstack(batch):
        (algorithm.loss(task)[0] / 3).backward()
    for parameter, expected in zip(algorithm.parameters(), together, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=ROUNDING)


@EVERY
def test_a_few_meta_updates_lower_the_query_loss(name):
    """On one fixed meta-batch: whatever an algorithm learns across tasks, it has to help with the queries."""
    algorithm, batch = make(name, dtype=torch.float64).train(), meta_batch(2, dtype=torch.float64)
    optimizer = torch.optim.Adam(algorithm.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        _, scores = engines.meta_backward(algorithm, batch, "loop")
        history.append(F.cross_entropy(scores.flatten(0, 1), batch.query_y.flatten()).item())
        optimizer.step()
    assert min(history[-3:]) < history[0]


@EVERY
@pytest.mark.parametrize("chunk", [None, 2])
def test_vmap_gives_what_the_loop_gives(name, chunk):
    algorithm, batch = make(name, dtype=torch.float64).train(), meta_batch(3, dtype=torch.float64)
    found = []
    for engine, options in (("loop", {}), ("vmap", {"chunk": chunk})):
        algorithm.zero_grad()
        losses, scores = engines.meta_backward(algorithm, batch, engine, **options)
        found.append([losses, scores, *(p.grad.clone() for p in algorithm.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=ROUNDING)
