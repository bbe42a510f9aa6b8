"""Heads that start at a task's class means: a prototypical network before any step, and the gradients after some."""

import pytest
import torch
from test_gradients import HIDDEN, NAMES, WAYS, batch, body, forward, network
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, datasets, engines, evaluate, models
from fewshot_kit.algorithms.bases.class_means import class_means_head
from fewshot_kit.episodes import unstack
from fewshot_kit.errors import InputError

RATE = 0.2


def test_the_scores_are_squared_distances_but_for_the_querys_own_length():
    features = torch.tensor([[1.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
    weight, bias = class_means_head(features, torch.tensor([0, 0, 1]), 3)
    assert weight.tolist() == [[4, 2], [0, 8], [0, 0]]  # twice (2, 1) and (0, 4)
    assert bias[:2].tolist() == [-5, -16]
    query = torch.tensor([1.0, 1.0])
    probability = (weight @ query + bias).softmax(0)
    assert torch.allclose(probability, torch.tensor([-1.0, -10.0, -1e4]).softmax(0))  # 1 and 10 from the means
    assert probability[2] == 0


@pytest.mark.parametrize("name", ["maml", "anil", "fomaml", "meta_sgd", "meta_curvature", "meta_lstm", "imaml"])
def test_before_any_step_it_is_a_prototypical_network(name):
    (task,) = unstack(batch(1))
    settings = {"batch_norm": "support"}
    protonet = algorithms.create("protonet", model=network(), **settings)
    expected = protonet.predict(protonet.adapt(task.support_x, task.support_y), task.query_x).softmax(1)
    algorithm = algorithms.create(name, model=network(), steps=0, class_means=True, **settings)
    found = algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x).softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def meta_loss(p, task, moving, first_order):
    """One step of plain descent from the class means, written out."""
    features = body(p, task.support_x)
    means = torch.stack([features[task.support_y == c].mean(0) for c in range(WAYS)])
    p = {name: value.clone() for name, value in p.items()}  # what the step moves is not what the means came from
    p |= {"3.weight": 2 * means, "3.bias": -(means**2).sum(1)}
    loss = F.cross_entropy(forward(p, task.support_x), task.support_y)
    slopes = torch.autograd.grad(loss, [p[name] for name in moving], create_graph=not first_order, retain_graph=True)
    p = {**p, **{name: p[name] - RATE * slope for name, slope in zip(moving, slopes, strict=True)}}
    return F.cross_entropy(forward(p, task.query_x), task.query_y)


@pytest.mark.parametrize("engine", ["loop", "vmap"])
@pytest.mark.parametrize("name, moving", [("maml", NAMES), ("fomaml", NAMES), ("anil", NAMES[4:])])
def test_the_meta_gradient_goes_through_the_means(name, moving, engine):
    algorithm = algorithms.create(name, model=network(), lr=RATE, steps=1, class_means=True)
    losses, _ = engines.meta_backward(algorithm, batch(2), engine)
    p = {name: value.detach().clone().requires_grad_() for name, value in network().named_parameters()}
    loss = sum(meta_loss(p, task, moving, name == "fomaml") for task in unstack(batch(2))) / 2
    expected = torch.autograd.grad(loss, [p[name] for name in NAMES[:4]])
    torch.testing.assert_close(losses.mean().detach(), loss.detach(), rtol=1e-9, atol=0)
    for (_, parameter), slope in zip(algorithm.model.named_parameters(), expected, strict=False):
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-7, atol=1e-9)


def test_finite_differences():
    (task,) = unstack(batch(1))
    algorithm = algorithms.create("maml", model=network(), lr=RATE, steps=2, class_means=True)

    def value(weight):
        with torch.no_grad():
            algorithm.model[0].weight.copy_(weight)
        return algorithm.loss(task)[0]

    weight = network()[0].weight.detach()
    value(weight).backward()
    along = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numeric = (value(weight + 1e-5 * along) - value(weight - 1e-5 * along)) / 2e-5
    torch.testing.assert_close((algorithm.model[0].weight.grad * along).sum(), numeric, rtol=1e-6, atol=1e-9)


def test_implicit_gradient_goes_through_the_means():
    """With a penalty that holds everything in place, the adapted network is its start: a prototypical network."""
    (task,) = unstack(batch(1))
    imaml = algorithms.create("imaml", model=network(), lr=1e-12, steps=1, penalty=1e9, class_means=True)
    imaml.loss(task)[0].backward()
    protonet = algorithms.create("protonet", model=network())
    scores = protonet.predict(protonet.adapt(task.support_x, task.support_y), task.query_x)
    F.cross_entropy(scores, task.query_y).backward()
    for found, expected in zip(list(imaml.model.parameters())[:4], protonet.model.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-6, atol=1e-9)


def test_a_head_for_more_classes_than_a_task_has():
    model = nn.Sequential(nn.Identity(), nn.Linear(HIDDEN, 5))
    x, y = torch.randn(4, HIDDEN, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1])
    algorithm = algorithms.create("maml", model=model, lr=0.01, steps=3, class_means=True)
    scores = algorithm.predict(algorithm.adapt(x, y), x)
    assert scores.shape == (4, 5) and scores.softmax(1)[:, 2:].sum() == 0


def test_what_it_needs_is_said():
    x, y = torch.randn(6, 6, dtype=torch.float64), torch.arange(3).repeat(2)
    with pytest.raises(InputError, match="linear head whose weight and bias adapt, and '3' of Sequential is another"):
        algorithms.create("boil", model=network(), class_means=True).adapt(x, y)
    with pytest.raises(InputError, match="'0' of Sequential is another"):
        model = nn.Sequential(nn.Linear(6, 3, bias=False)).double()
        algorithms.create("maml", model=model, class_means=True).adapt(x, y)
    with pytest.raises(InputError, match="Sequential does not end with its head '0'"):
        model = nn.Sequential(nn.Linear(6, 3), nn.Tanh()).double()
        algorithms.create("maml", model=model, class_means=True).adapt(x, y)
    with pytest.raises(InputError, match="these targets are floats"):
        algorithms.create("maml", model=network(), class_means=True).adapt(x, torch.zeros(6, 3, dtype=torch.float64))
    with pytest.raises(InputError, match="start from the model's own head"):
        algorithms.create("maml", model=network(), class_means=True).clone()


def test_on_omniglot(data_root):
    data = datasets.create("omniglot", root=data_root)
    settings = {"ways": 5, "shots": 1, "episodes": 20}
    protonet = algorithms.create("protonet", model=models.create("conv4", seed=0), batch_norm="support")
    maml = algorithms.create(
        "maml", model=models.create("conv4", seed=0), lr=1e-6, class_means=True, batch_norm="support"
    )
    assert evaluate(maml, data.test, **settings).mean == evaluate(protonet, data.test, **settings).mean > 0.35
