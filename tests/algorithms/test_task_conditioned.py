"""Task-conditioned networks against NumPy: the statistics of the support set, FiLM, and what reads the result."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_kit import adapt, algorithms, datasets, engines, models
from fewshot_kit.algorithms.task_conditioned import EPSILON, mean_and_deviation
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

RANDOM = np.random.default_rng(0)
X, QUERY, LABELS = RANDOM.normal(size=(5, 3)), RANDOM.normal(size=(4, 3)), np.array([0, 1, 0, 2, 1])


def make(model, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return algorithms.create("task_conditioned", model=model, **options).double()


def layer(linear, rows):
    return rows @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()


def network(modules, rows):
    return layer(modules[2], np.maximum(layer(modules[0], rows), 0))


def statistics(rows):
    return np.concatenate([rows.mean(0), np.sqrt(rows.var(0) + EPSILON)])


def test_mean_and_deviation_by_hand():
    codes = torch.tensor([[1.0, 2.0], [5.0, 5.0], [3.0, 8.0]], dtype=torch.float64)
    members = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    expected = [[2.0, 5.0, (1 + EPSILON) ** 0.5, (9 + EPSILON) ** 0.5], [5.0, 5.0, EPSILON**0.5, EPSILON**0.5]]
    torch.testing.assert_close(mean_and_deviation(codes, members), torch.tensor(expected, dtype=torch.float64))


def test_one_example_has_a_deviation_with_a_finite_slope():
    codes = torch.tensor([[1.0, 2.0]], requires_grad=True)
    mean_and_deviation(codes, torch.ones(1, 1)).sum().backward()
    assert codes.grad.tolist() == [[1.0, 1.0]]  # that of the mean


def test_classes_against_numpy():
    conditioned = make(nn.Identity(), width=3, hidden=6)
    state = conditioned.adapt(torch.tensor(X), torch.tensor(LABELS))
    classes = [X[[0, 2]], X[[1, 4]], X[[3]]]
    embedding = np.array([np.concatenate([statistics(own), statistics(X)]) for own in classes])
    np.testing.assert_allclose(state["embedding"], embedding, rtol=1e-9)
    scores = np.empty((4, 3))
    for label, film in enumerate(layer(conditioned.film, embedding)):
        scores[:, label] = network(conditioned.readout, (1 + film[:3]) * QUERY + film[3:])[:, 0]
    np.testing.assert_allclose(conditioned.predict(state, torch.tensor(QUERY)).detach(), scores, rtol=1e-9)


@pytest.mark.parametrize("shape", [(5,), (5, 1)])
def test_regression_against_numpy(shape):
    model = models.create("mlp", inputs=3, hidden=[7], seed=0).double()
    conditioned, y = make(model, hidden=6), RANDOM.normal(size=5)
    state = conditioned.adapt(torch.tensor(X), torch.tensor(y).reshape(shape))
    hidden = [np.maximum(layer(model.hidden[0], rows), 0) for rows in (X, QUERY)]
    embedding = statistics(network(conditioned.pairs, np.concatenate([hidden[0], y[:, None]], 1)))
    np.testing.assert_allclose(state["embedding"].detach(), embedding[None], rtol=1e-9)
    film = layer(conditioned.film, embedding)
    outputs = layer(model.head, (1 + film[:7]) * hidden[1] + film[7:])
    np.testing.assert_allclose(conditioned.predict(state, torch.tensor(QUERY)).detach(), outputs, rtol=1e-9)


def test_the_order_of_examples_and_of_classes():
    conditioned = make(models.create("conv4", ways=3, hidden=4, image_size=14, seed=0).double())
    generator = torch.Generator().manual_seed(0)
    x, query = (torch.rand(n, 1, 14, 14, generator=generator, dtype=torch.float64) for n in (6, 4))
    y, order, classes = torch.tensor([0, 1, 2] * 2), torch.tensor([4, 2, 0, 5, 1, 3]), torch.tensor([2, 0, 1])
    scores = conditioned.predict(conditioned.adapt(x, y), query)
    assert scores.std(1).min() > 1e-6
    torch.testing.assert_close(conditioned.predict(conditioned.adapt(x[order], y[order]), query), scores)
    renamed = conditioned.predict(conditioned.adapt(x, classes[y]), query)
    torch.testing.assert_close(renamed[:, classes], scores)


def test_the_order_of_the_pairs():
    conditioned = make(models.create("mlp", seed=0).double())
    x, query = (torch.linspace(*ends, 6, dtype=torch.float64)[:, None] for ends in ((-3, 3), (-1, 2)))
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    outputs = conditioned.predict(conditioned.adapt(x, x[:, 0].sin()), query)
    shuffled = conditioned.predict(conditioned.adapt(x[order], x[order, 0].sin()), query)
    torch.testing.assert_close(shuffled, outputs)
    another = conditioned.predict(conditioned.adapt(x, 2 * x[:, 0].sin()), query)
    assert not torch.allclose(another, outputs)


def test_tasks_of_any_number_of_classes():
    conditioned = make(models.create("mlp", inputs=3, ways=4, seed=0))
    for ways in (1, 2, 5):
        state = conditioned.adapt(torch.tensor(X), torch.arange(5) % ways)
        assert conditioned.predict(state, torch.tensor(QUERY)).shape == (4, ways)


def sines(tasks, shots=10, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return datasets.create("sinusoid").train.episodes(1, shots, 10, tasks, generator)


def test_regression_by_every_engine():
    conditioned = make(models.create("mlp", seed=0))
    episodes = Episode(*(tensor.double() for tensor in sines(3)))
    found = []
    for engine in ("loop", "vmap"):
        conditioned.zero_grad()
        losses, scores = engines.meta_backward(conditioned, episodes, engine)
        found.append([losses, scores, *(p.grad.clone() for p in conditioned.parameters())])
    assert scores.shape == (3, 10, 1) and all(tensor.any() for tensor in found[0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_it_learns_to_read_sines():
    conditioned = make(models.create("mlp", seed=0)).float()
    before, optimizer = copy.deepcopy(conditioned), torch.optim.Adam(conditioned.parameters(), lr=5e-3)
    for index in range(150):
        optimizer.zero_grad()
        engines.meta_backward(conditioned, sines(16, seed=index), "vmap")
        optimizer.step()
    unseen = sines(100, seed=1000)
    losses = [engines.meta_backward(one, unseen, "vmap")[0].mean().item() for one in (before, conditioned)]
    assert losses[1] < 0.6 * losses[0] and losses[1] < 0.7 * unseen.query_y.var().item()


def test_what_decides_between_classes_and_regression():
    assert make(models.create("mlp", ways=1, seed=0)).pairs is not None
    assert make(models.create("mlp", ways=2, seed=0)).pairs is None
    several = make(models.create("mlp", ways=2, seed=0), regression=True).float()
    assert adapt(several, (torch.rand(4, 1), torch.rand(4, 2)))(torch.rand(3, 1)).shape == (3, 2)
    assert make(models.create("mlp", ways=1, seed=0), regression=False).pairs is None
    with pytest.raises(InputError, match="is made with its regression, which cannot be replaced later; make another"):
        adapt(several, (torch.rand(4, 1), torch.rand(4, 2)), regression=False)


@pytest.mark.parametrize(
    "model, options, message",
    [
        (nn.Identity(), {}, "Identity has no linear head; say how wide its embedding is, as width=64."),
        (
            nn.Identity(),
            {"width": 3, "regression": True},
            "Identity has no linear head to regress by; end it with an nn.Linear.",
        ),
        (nn.Linear(3, 2), {"hidden": 0}, "hidden is 0; it must be a whole number of at least 1."),
    ],
)
def test_options_that_cannot_be(model, options, message):
    with pytest.raises(InputError) as raised:
        make(model, **options)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "ways, y, message",
    [
        (
            2,
            torch.rand(5),
            "The targets are floats and this TaskConditioned tells classes apart; give class indices, or make it with "
            "regression=True.",
        ),
        (
            1,
            torch.tensor(LABELS),
            "The targets are class indices and this TaskConditioned regresses; give float targets, or make it with "
            "regression=False.",
        ),
        (
            1,
            torch.rand(5, 3),
            "A target has 3 values and the model's head gives 1; make the head as wide as the targets.",
        ),
    ],
)
def test_targets_of_the_wrong_kind(ways, y, message):
    conditioned = make(models.create("mlp", inputs=3, ways=ways, seed=0))
    with pytest.raises(InputError) as raised:
        conditioned.adapt(torch.tensor(X), y)
    assert str(raised.value) == message


def test_an_embedding_that_is_too_wide_is_refused_before_memory_is_taken():
    """Of 21,632 features, its map would have 3.7 billion weights."""
    with pytest.raises(InputError, match="CNN's embedding has 21,632 features.* 3,743,547,392 weights; take a model"):
        algorithms.create("task_conditioned", model=models.create("cnn", seed=0))
