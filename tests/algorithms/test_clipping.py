"""`clip`: inner gradients of bounded norm, against the same written out and against finite differences, in float64."""

import pytest
import torch
from test_gradients import LR, MOVING, NAMES, STEPS, batch, finite_differences, forward, network, relative_error
from torch.nn import functional as F
from toy import noisy_net, points

from fewshot_kit import adapt, algorithms, engines
from fewshot_kit.algorithms.bases.clipping import clipped_gradients
from fewshot_kit.algorithms.bases.replacing import with_options
from fewshot_kit.episodes import unstack
from fewshot_kit.errors import InputError

CLIP = 0.5  # the norms of the test's inner gradients lie on both sides of it (`test_some_steps_are_clipped...`)
DESCENDING = [name for name in algorithms.names() if hasattr(algorithms.get(name), "descend")]


def adapted(p, task, moving, first_order, norms):
    for _ in range(STEPS):
        loss = F.cross_entropy(forward(p, task.support_x), task.support_y)
        grads = torch.autograd.grad(loss, [p[n] for n in moving], create_graph=not first_order, retain_graph=True)
        norm = sum(g.pow(2).sum() for g in grads).sqrt()
        norms.append(norm.item())
        scale = CLIP / norm if norm > CLIP else 1.0
        p = {**p, **{n: p[n] - LR * scale * g for n, g in zip(moving, grads, strict=True)}}
    return p


def meta_loss(p, moving, first_order=False, norms=None):
    tasks, norms = unstack(batch()), [] if norms is None else norms
    there = [adapted(p, task, moving, first_order, norms) for task in tasks]
    return sum(F.cross_entropy(forward(q, t.query_x), t.query_y) for q, t in zip(there, tasks, strict=True)) / 2


def kit_gradient(name, first_order, engine, clip=CLIP):
    algorithm = algorithms.create(name, model=network(), lr=LR, steps=STEPS, first_order=first_order, clip=clip)
    losses, scores = engines.meta_backward(algorithm, batch(), engine)
    return losses, scores, {n: p.grad for n, p in algorithm.model.named_parameters()}


CASES = pytest.mark.parametrize("first_order", [False, True])
WHICH = pytest.mark.parametrize("name", ["maml", "anil", "boil"])


@WHICH
@CASES
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_equals_plain_autograd(name, first_order, engine):
    losses, _, gradient = kit_gradient(name, first_order, engine)
    p = {n: v.detach().clone().requires_grad_() for n, v in network().named_parameters()}
    loss = meta_loss(p, MOVING[name], first_order)
    expected = dict(zip(NAMES, torch.autograd.grad(loss, [p[n] for n in NAMES]), strict=True))
    assert relative_error(gradient, expected) < 1e-10
    torch.testing.assert_close(losses.mean(), loss.detach(), rtol=1e-10, atol=0)


@WHICH
def test_equals_finite_differences(name):
    _, _, gradient = kit_gradient(name, False, "loop")
    p = {n: v.detach().clone() for n, v in network().named_parameters()}

    def whole(q):
        return meta_loss({n: v.requires_grad_() for n, v in q.items()}, MOVING[name]).detach()

    assert relative_error(gradient, finite_differences(whole, p)) < 1e-5


@WHICH
def test_some_steps_are_clipped_and_it_matters(name):
    """A guard on the tests above."""
    norms = []
    p = {n: v.detach().clone().requires_grad_() for n, v in network().named_parameters()}
    meta_loss(p, MOVING[name], norms=norms)
    assert max(norms) > CLIP
    _, _, clipped = kit_gradient(name, False, "loop")
    _, _, plain = kit_gradient(name, False, "loop", clip=None)
    assert relative_error(clipped, plain) > 1e-2


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_a_clip_that_is_never_reached_leaves_every_bit(engine):
    some, others = (kit_gradient("maml", False, engine, clip) for clip in (None, 1e6))
    assert torch.equal(some[0], others[0]) and torch.equal(some[1], others[1])
    assert all(torch.equal(some[2][name], others[2][name]) for name in NAMES)


def test_by_hand():
    """(3, 4) has length 5: halved by clip 2.5, left alone by 5."""
    gradients = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}
    assert {n: g.item() for n, g in clipped_gradients(gradients, 2.5).items()} == {"a": 1.5, "b": 2.0}
    assert {n: g.item() for n, g in clipped_gradients(gradients, 5.0).items()} == {"a": 3.0, "b": 4.0}
    assert clipped_gradients({}, 1.0) == {}


def test_a_gradient_of_zero_stays_differentiable():
    x = torch.zeros(3, requires_grad=True)
    found = clipped_gradients({"x": 2 * x}, 1.0)["x"]
    assert torch.equal(torch.autograd.grad(found.sum(), x)[0], torch.full((3,), 2.0))


@pytest.mark.parametrize("name", DESCENDING)
def test_every_gradient_based_algorithm_takes_it(name):
    """A tiny clip all but stops plain steps, so the adapted parameters stay; Adam's steps do not depend on lengths."""
    x, y = points().x[:36:2].double(), points().y[:36:2]
    plain = algorithms.create(name, model=noisy_net().double()).eval()
    tight = with_options(algorithms.create(name, model=noisy_net().double()).eval(), clip=1e-9)
    before, moved, stayed = plain.initial(), *(each.adapt(x, y)["parameters"] for each in (plain, tight))
    by_adam = name in ("finetune", "lp_ft", "reptile")
    if name == "meta_lstm":  # its forget gate moves the parameters even along a gradient of 0
        assert any(not torch.equal(moved[key], stayed[key]) for key in moved)
        return
    far = max((stayed[key] - before[key]).abs().max() for key in before if not by_adam or key in moved)
    assert by_adam or far < 1e-7
    assert any(not torch.equal(moved[key], stayed[key]) for key in moved)


def test_a_first_step_that_would_diverge():
    x, y = points().x[:36:2], points().y[:36:2]
    with pytest.raises(InputError, match="not finite"):
        adapt(noisy_net(), (1e18 * x, y), algorithm="maml", lr=1e18, steps=5)
    learner = adapt(noisy_net(), (x, y), algorithm="maml", lr=0.1, clip=1.0, steps=50)
    assert learner.score(x, y) > 0.9


def test_what_it_cannot_be():
    with pytest.raises(InputError, match="clip is 0; it must be a positive number"):
        algorithms.create("maml", model=noisy_net(), clip=0)
    with pytest.raises(InputError, match="closed form takes no gradient steps; leave clip=1 or closed_form=True out"):
        algorithms.create("anil", model=noisy_net(), closed_form=True, clip=1.0)
    for name in ("maml", "boil"):
        with pytest.raises(InputError, match="learners do not clip, and clip is 2; use adapt"):
            algorithms.create(name, model=noisy_net(), clip=2.0).clone()


def test_a_recipe_names_it_only_where_it_is_given():
    assert "clip" not in algorithms.create("maml", model=noisy_net(), lr=0.1).recipe["options"]
    assert algorithms.create("maml", model=noisy_net(), clip=2.0).recipe["options"] == {"clip": 2.0}
