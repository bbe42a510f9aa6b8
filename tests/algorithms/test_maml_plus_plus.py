"""MAML++ against the paper written out in plain autograd, and the released code's schedule by hand."""

import copy

import numpy as np
import pytest
import torch
from test_gradients import LR
from test_gradients import batch as batch_of_points
from torch import nn
from torch.nn import functional as F

from fewshot_kit import Learner, adapt, algorithms, engines, load, save
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.errors import InputError

WAYS, STEPS = 3, 3
ADAPTING = ["0.weight", "0.bias", "4.weight", "4.bias"]  # convolution and head


def network():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.Flatten(), nn.Linear(16, WAYS)).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def batch(tasks=2):
    generator = torch.Generator().manual_seed(5)
    y = [torch.arange(WAYS).repeat_interleave(n).repeat(tasks, 1) for n in (2, 3)]
    x = [torch.randn(tasks, WAYS * n, 1, 4, 4, generator=generator, dtype=torch.float64) for n in (2, 3)]
    return Episode(x[0], y[0], x[1], y[1])


def make(steps=STEPS, **options):
    """With rates and rows as different as learned ones are."""
    algorithm = algorithms.create("maml_plus_plus", model=network(), steps=steps, **options)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        algorithm.rates.mul_(1 + torch.rand(algorithm.rates.shape, generator=generator, dtype=torch.float64))
        for table in algorithm.rows:
            table.add_(0.3 * torch.randn(table.shape, generator=generator, dtype=torch.float64))
    return algorithm


def tensors(algorithm):
    """What is learned across tasks, as leaves: the initialisation, the rates, batch norm's weights and biases."""
    own = dict(algorithm.model.named_parameters())
    start = {name: own[name].detach().clone().requires_grad_() for name in ADAPTING}
    norms = [own["1.weight"], own["1.bias"]]
    if len(algorithm.rows):
        norms = [torch.cat([first[None], later]) for first, later in zip(norms, algorithm.rows, strict=True)]
    norms = [table.detach().clone().view(-1, 4).requires_grad_() for table in norms]
    return start, algorithm.rates.detach().clone().requires_grad_(), norms


def forward(p, x, weight, bias, reference=None):
    """The same network, written out: normalised by its own batch, or by the images `reference`."""
    h = F.conv2d(x, p["0.weight"], p["0.bias"])
    by = h if reference is None else F.conv2d(reference, p["0.weight"], p["0.bias"])
    mean = by.mean((0, 2, 3), keepdim=True)
    variance = ((by - mean) ** 2).mean((0, 2, 3), keepdim=True)
    h = (h - mean) / (variance + 1e-5).sqrt() * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    return (h * torch.sigmoid(h)).flatten(1) @ p["4.weight"].T + p["4.bias"]


def query_scores(start, rates, norms, task, steps=STEPS, first_order=False, support=False):
    """The queries' scores after every inner step."""
    p, found = start, []
    for step in range(steps):
        row = min(step, len(rates) - 1)
        norm = [table[row] for table in norms]
        loss = F.cross_entropy(forward(p, task.support_x, *norm), task.support_y)
        slopes = torch.autograd.grad(loss, list(p.values()), create_graph=not first_order, retain_graph=True)
        p = {n: v - rates[row, i] * g for i, ((n, v), g) in enumerate(zip(p.items(), slopes, strict=True))}
        found.append(forward(p, task.query_x, *norm, task.support_x if support else None))
    return found


WEIGHTS = {0.0: [1 / 3, 1 / 3, 1 / 3], 0.05: [1 / 6, 1 / 6, 2 / 3], 0.1: [0, 0, 1]}  # by the progress


@pytest.mark.parametrize("progress", WEIGHTS)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("batch_norm", ["transductive", "support"])
@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_equals_plain_autograd(engine, batch_norm, first_order, progress):
    algorithm = make(first_order=first_order, batch_norm=batch_norm)
    algorithm.anneal(progress)
    losses, scores = engines.meta_backward(algorithm, batch(), engine)
    start, rates, norms = tensors(algorithm)
    expected = []
    for task, loss, score in zip(unstack(batch()), losses, scores, strict=True):
        found = query_scores(start, rates, norms, task, STEPS, first_order, batch_norm == "support")
        weighted = zip(WEIGHTS[progress], found, strict=True)
        expected.append(sum(weight * F.cross_entropy(each, task.query_y) for weight, each in weighted))
        torch.testing.assert_close(loss, expected[-1].detach(), rtol=1e-10, atol=0)
        torch.testing.assert_close(score, found[-1].detach(), rtol=1e-9, atol=1e-10)
    sum(expected).div(2).backward()
    gradients = {name: parameter.grad for name, parameter in algorithm.model.named_parameters()}
    for name in ADAPTING:
        torch.testing.assert_close(gradients[name], start[name].grad, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(algorithm.rates.grad, rates.grad, rtol=1e-8, atol=1e-12)
    for name, later, table in zip(["1.weight", "1.bias"], algorithm.rows, norms, strict=True):
        first = torch.zeros(4).double() if gradients[name] is None else gradients[name]  # first order
        torch.testing.assert_close(torch.cat([first[None], later.grad]), table.grad, rtol=1e-8, atol=1e-12)


def test_everything_receives_a_gradient_before_and_after_annealing():
    """Every row of every table; a convolution's bias before batch norm moves nothing, nor does its rate."""
    for progress in (0.0, 1.0):
        algorithm = make()
        algorithm.anneal(progress)
        engines.meta_backward(algorithm, batch(), "loop")
        for name, parameter in algorithm.named_parameters():
            if name != "model.0.bias":
                rows = parameter.grad if name.startswith("rows") else parameter.grad[None]
                assert all(row.abs().max() > 1e-6 for row in rows), name
        moving = algorithm.rates.grad[:, [0, 2, 3]]
        assert moving.abs().min() > 1e-6


def test_the_weights_of_the_loss_by_hand():
    algorithm = make(steps=5)
    by_hand = {
        0.0: [0.2, 0.2, 0.2, 0.2, 0.2],
        0.05: [0.1, 0.1, 0.1, 0.1, 0.6],
        0.099: [0.006, 0.006, 0.006, 0.006, 0.976],  # 0.03 / 5
        0.1: [1.0],
        1.0: [1.0],
    }
    for progress, weights in by_hand.items():
        algorithm.anneal(progress)
        torch.testing.assert_close(algorithm.importance, torch.tensor(weights, dtype=torch.float64))
    whole, none, one = make(annealing=1.0), make(annealing=0.0), make(steps=1)
    whole.anneal(0.5)
    torch.testing.assert_close(whole.importance, torch.tensor(WEIGHTS[0.05], dtype=torch.float64))
    assert none.importance.tolist() == one.importance.tolist() == [1.0]


@pytest.mark.parametrize("steps, epochs", [(2, 15), (5, 10)])
def test_the_weights_of_the_loss_are_the_released_codes(steps, epochs):
    algorithm = make(steps=steps, annealing=epochs / 100)
    fall = 1 / steps / epochs
    for epoch in range(epochs):
        earlier = np.maximum(1 / steps - epoch * fall, 0.03 / steps)
        last = np.minimum(1 / steps + epoch * (steps - 1) * fall, 1 - (steps - 1) * 0.03 / steps)
        algorithm.anneal(epoch / 100)
        np.testing.assert_allclose(algorithm.importance, [earlier] * (steps - 1) + [last], rtol=1e-12)


@pytest.mark.parametrize("trained, steps", [(1, 3), (2, 5), (3, 2)])
def test_other_steps_than_were_trained(trained, steps):
    algorithm, [task] = make(steps=trained), unstack(batch(1))
    expected = query_scores(*tensors(algorithm), task, steps)[-1].detach()
    algorithm.steps = steps
    with torch.no_grad():
        scores = algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x)
    torch.testing.assert_close(scores, expected, rtol=1e-9, atol=1e-10)
    assert algorithm.loss(task)[0].isfinite()
    algorithm.anneal(0.0)
    assert algorithm.importance.tolist() == pytest.approx([1 / steps] * steps)
    learner = adapt(make(steps=trained), (task.support_x, task.support_y), steps=steps)
    torch.testing.assert_close(learner(task.query_x), expected, rtol=1e-9, atol=1e-10)


def test_without_batch_norm_and_with_rates_all_alike_it_is_maml():
    model = nn.Sequential(nn.Linear(6, 7), nn.SiLU(), nn.Linear(7, 3)).double()
    gradients = []
    for name in ("maml_plus_plus", "maml"):
        algorithm = algorithms.create(name, model=copy.deepcopy(model), lr=LR, steps=3)
        algorithm.anneal(1.0)
        engines.meta_backward(algorithm, batch_of_points(), "loop")
        gradients.append([p.grad for p in algorithm.model.parameters()])
        assert len(getattr(algorithm, "rows", [])) == 0
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_batch_norm_does_not_adapt_and_the_state_has_that_of_the_last_step():
    algorithm, [task] = make(), unstack(batch(1))
    state = algorithm.adapt(task.support_x, task.support_y)
    assert algorithm.adapts() == set(ADAPTING)
    assert torch.equal(state["parameters"]["1.weight"], algorithm.rows[0][-1])
    assert torch.equal(state["parameters"]["1.bias"], algorithm.rows[1][-1])
    model = network()
    model[1].requires_grad_(False)
    frozen = algorithms.create("maml_plus_plus", model=model)
    assert not any(table.requires_grad for table in frozen.rows)


def test_how_far_the_annealing_is_belongs_to_training_alone(tmp_path):
    algorithm, [task] = make(), unstack(batch(1))
    algorithm.anneal(1.0)
    again = load(save(algorithm, tmp_path / "kept"), model=network())
    assert "importance" not in algorithm.state_dict() and len(again.importance) == STEPS
    with torch.no_grad():
        scores = [one.predict(one.adapt(task.support_x, task.support_y), task.query_x) for one in (algorithm, again)]
    assert torch.equal(*scores)


def test_a_learner_of_more_steps_is_kept_in_a_file(tmp_path):
    """The tables are those of the steps that were trained, whatever it adapted by."""
    [task] = unstack(batch(1))
    learner = adapt(make(), (task.support_x, task.support_y), steps=STEPS + 4)
    again = Learner.load(learner.save(tmp_path / "learner"), model=network())
    assert torch.equal(again(task.query_x), learner(task.query_x))


def test_the_figures_are_the_mean_rate_of_each_step():
    algorithm = algorithms.create("maml_plus_plus", model=network(), steps=2)
    assert algorithm.figures() == {"rate_1": pytest.approx(0.1), "rate_2": pytest.approx(0.1)}
    with torch.no_grad():
        algorithm.rates[1] = torch.tensor([0.1, 0.2, 0.3, 0.6])
    assert algorithm.figures() == {"rate_1": pytest.approx(0.1), "rate_2": pytest.approx(0.3)}


@pytest.mark.parametrize("annealing", [-0.1, 1.5, float("nan"), "10"])
def test_an_annealing_that_is_no_fraction(annealing):
    with pytest.raises(InputError) as caught:
        make(annealing=annealing)
    assert str(caught.value) == f"annealing is {annealing!r}; it must be a fraction of training, from 0 to 1."


def test_what_cannot_be():
    with pytest.raises(InputError) as caught:
        make(steps=0)
    assert str(caught.value) == "steps is 0; it must be a whole number of at least 1."
    with pytest.raises(InputError, match="The inner loop's lr is -1; it must be a positive number."):
        make(lr=-1)
