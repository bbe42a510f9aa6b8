"""Ridge and logistic regression on features, and the folds that find their strength, against NumPy and scikit-learn."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms
from fewshot_kit.algorithms.bases.held_out import (
    TEMPERATURES,
    by_folds,
    choose,
    class_balance,
    fold_weights,
    measurable,
)
from fewshot_kit.errors import InputError

CLASSES = 3


def support(counts=(4, 4, 4), size=8, seed=0, spread=0.8):
    """Features of length 1 around a corner for each class, in mixed order."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    y = y[torch.randperm(len(y), generator=generator)]
    x = torch.eye(size, dtype=torch.float64)[y]
    return F.normalize(x + spread * torch.randn(len(y), size, generator=generator, dtype=torch.float64)), y


def shares(y, kept):
    """What each example counts for: all classes the same, the mean 1 over those that are kept."""
    found = np.zeros(len(y))
    for label in range(CLASSES):
        inside = kept & (y == label)
        found[inside] = 1 / inside.sum()
    return found * kept.sum() / found.sum()


def ridge(x, y, kept, penalty):
    """Weighted least squares with an offset of its own, by its normal equations in D + 1 unknowns."""
    weights, targets = shares(y, kept), np.eye(CLASSES)[y]
    ones = np.column_stack([x, np.ones(len(x))])
    inside = ones.T @ (weights[:, None] * ones) + penalty * np.diag([1.0] * x.shape[1] + [0.0])
    solved = np.linalg.solve(inside, ones.T @ (weights[:, None] * targets))
    return lambda queries: np.column_stack([queries, np.ones(len(queries))]) @ solved


@pytest.mark.parametrize("counts", [(4, 4, 4), (2, 5, 3), (1, 1, 1)])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_ridge_solves_its_normal_equations(counts, penalty):
    x, y = support(counts)
    head = algorithms.create("ridge", model=nn.Identity(), penalty=penalty)
    fitted = head.fit(x, y)
    queries, _ = support(seed=1)
    expected = ridge(x.numpy(), y.numpy(), np.ones(len(y), bool), penalty)(queries.numpy())
    np.testing.assert_allclose(head.score(fitted, queries) / fitted["temperature"], expected, atol=1e-10)


@pytest.mark.parametrize("counts", [(4, 4, 4), (2, 5, 3), (1, 3, 2)])
def test_held_out_scores_are_those_of_a_fit_without_the_fold(counts):
    x, y = support(counts)
    head = algorithms.create("ridge", model=nn.Identity(), penalty=0.5)
    held = (head.held_out_features(x, y) / head.fit(x, y)["temperature"]).numpy()
    seen = np.zeros(len(y), int)
    for kept in fold_weights(y, CLASSES).numpy() > 0:
        expected = ridge(x.numpy(), y.numpy(), kept, 0.5)(x.numpy()[~kept])
        np.testing.assert_allclose(held[~kept], expected, atol=1e-10)
        seen[~kept] += 1
    alone = np.array([counts[label] == 1 for label in y])
    assert (seen[~alone] == 1).all() and (seen[alone] == 0).all() and not held[alone].any()


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("counts", [(5, 5, 5), (3, 6, 2)])
def test_logistic_is_scikit_learns(counts, penalty):
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = support(counts)
    weights = shares(y.numpy(), np.ones(len(y), bool))
    peer = linear.LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000)
    peer.fit(x.numpy(), y.numpy(), sample_weight=weights)
    head = algorithms.create("logistic", model=nn.Identity(), penalty=penalty)
    fitted = head.fit(x, y)
    queries, _ = support(seed=1)
    logits = head.score(fitted, queries) / fitted["temperature"]
    np.testing.assert_allclose(logits.softmax(-1), peer.predict_proba(queries.numpy()), atol=2e-3)


def test_logistic_ends_where_its_loss_is_flat():
    x, y = support((4, 3, 5))
    head = algorithms.create("logistic", model=nn.Identity(), penalty=1.0)
    fitted = head.fit(x, y)
    slopes = (fitted["weights"] / fitted["temperature"]).requires_grad_()
    bias = (fitted["bias"] / fitted["temperature"]).requires_grad_()
    weights = torch.from_numpy(shares(y.numpy(), np.ones(len(y), bool)))
    loss = (weights * F.cross_entropy(x @ slopes + bias, y, reduction="none")).sum() + slopes.square().sum() / 2
    for gradient in torch.autograd.grad(loss, (slopes, bias)):
        assert gradient.abs().max() < 1e-4


def test_folds_hold_out_one_of_every_class():
    y = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    kept = fold_weights(y, 3)
    assert kept.tolist() == [[0, 0, 0, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 0]]
    assert fold_weights(torch.tensor([0, 1, 2]), 3).all() and not measurable(torch.tensor([0, 1, 2])).any()
    many = fold_weights(torch.arange(3).repeat(20), 3)
    assert len(many) == 5 and (many == 0).sum(1).tolist() == [12] * 5
    balanced = class_balance(y, torch.ones(7))
    sums = [balanced[y == label].sum().item() for label in range(3)]
    assert sums == pytest.approx([7 / 3] * 3)


def test_the_strongest_within_a_standard_error_is_chosen():
    y = torch.tensor([0, 0, 1, 1])
    right = torch.nn.functional.one_hot(y, 2).double()
    wrong = 1 - right
    middle = right.clone()
    middle[0] = wrong[0]
    chosen = choose(torch.stack([right, right, wrong]), y, usual=1, temperature=3.0)
    assert int(chosen.place) == 1  # as good as the best, and stronger
    assert int(choose(torch.stack([right, wrong, middle]), y, 1, 3.0).place) == 0
    assert float(chosen.temperature) in TEMPERATURES and float(chosen.temperature) < max(TEMPERATURES)
    untold = choose(torch.stack([right[:2], right[:2]]), torch.tensor([0, 1]), usual=1, temperature=3.0)
    assert (int(untold.place), float(untold.temperature)) == (1, 3.0)


def test_the_search_takes_what_suits_the_features():
    """With noise beyond the classes' distance only a strong penalty helps; without noise any is as good."""
    strong = algorithms.create("ridge", model=nn.Identity())
    x, y = support((8, 8, 8), size=200, spread=1.0)
    assert float(strong.fit(x, y)["penalty"]) >= 1.0
    assert strong.held_out_features(x, y).shape == (24, 3)


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_many_examples_are_solved_for_one_by_one(name, monkeypatch):
    x, y = support((5, 4, 6))
    head = algorithms.create(name, model=nn.Identity())
    together = head.held_out_features(x, y)
    monkeypatch.setattr("fewshot_kit.algorithms.bases.linear_head.TOGETHER", 14)
    torch.testing.assert_close(head.held_out_features(x, y), together)


def test_the_general_folds_are_those_of_any_head():
    x, y = support((3, 2, 1))
    head = algorithms.create("simple_shot", model=nn.Identity())
    held = head.held_out_features(x, y)
    for number in range(len(y)):
        if measurable(y)[number]:
            assert held[number].any()
    assert not held[y == 2].any()
    scores = by_folds(lambda a, b, queries: head.score(head.fit(a, b), queries), x, y)
    assert torch.equal(held, scores)


@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_probabilities_say_about_how_often_they_are_right(name):
    """One cloud overlaps another: over twenty tasks the mean probability of the answer lies near the accuracy."""
    head, right, sure = algorithms.create(name, model=nn.Identity()), [], []
    for seed in range(20):
        x, y = support((5, 5, 5), spread=0.5, seed=seed)
        queries, truth = support((20, 20, 20), seed=100 + seed, spread=0.5)
        chances = head.score(head.fit(x, y), queries).softmax(-1)
        right.append((chances.argmax(-1) == truth).double().mean())
        sure.append(chances.max(-1).values.mean())
    assert 0.6 < sum(right) / 20 < 0.95 and abs(sum(right) - sum(sure)) / 20 < 0.1


@pytest.mark.parametrize(
    "options, message",
    [
        ({"penalty": 0}, "penalty is 0; it must be a positive number"),
        ({"penalty": "strong"}, "penalty is 'strong'; it must be a positive number"),
        ({"views": 3}, "views is 3; it must be one of 1, 2, 10"),
        ({"batch_norm": "batch"}, "transductive, support, running"),
    ],
)
def test_options_that_cannot_be(options, message):
    for name in ("ridge", "logistic"):
        with pytest.raises(InputError, match=message):
            algorithms.create(name, model=nn.Identity(), **options)
