"""BD-CSPN, LaplacianShot, alpha-TIM and PT-MAP against NumPy, and what they make of few and of unbalanced queries."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from toy import points

from fewshot_kit import algorithms, evaluate
from fewshot_kit.errors import InputError

NAMES = [name for name in algorithms.names() if getattr(algorithms.get(name), "transductive", False)]
Y = np.array([2, 0, 1, 1, 2, 0])
WAYS = 3


def task(queries=9, width=5, seed=0):
    """Support and query features around three centres, some of them negative."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(WAYS, width))
    labels = generator.integers(WAYS, size=queries)
    return tuple(centres[y] + 0.6 * generator.normal(size=(len(y), width)) for y in (Y, labels))


def scores(name, support, queries, **options):
    head = algorithms.create(name, model=nn.Identity(), **options).double()
    return head.predict(head.adapt(torch.tensor(support), torch.tensor(Y)), torch.tensor(queries)).numpy()


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def softmax(logits):
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def distances(rows, means):
    return np.array([[((row - mean) ** 2).sum() for mean in means] for row in rows])


def rectified_means(support, queries, epsilon, shift):
    means = np.array([support[k == Y].mean(0) for k in range(WAYS)])
    moved = queries + support.mean(0) - queries.mean(0) if shift else queries
    likeness = unit(moved) @ unit(means).T
    found = []
    for k in range(WAYS):
        rows = np.concatenate([support[k == Y], moved[likeness.argmax(1) == k]])
        weights = np.exp(epsilon * unit(rows) @ unit(means)[k])
        found.append(weights @ rows / weights.sum())
    return np.array(found)


@pytest.mark.parametrize("epsilon, shift", [(1.0, True), (10.0, True), (2.0, False)])
def test_bd_cspn(epsilon, shift):
    support, queries = task()
    means = rectified_means(unit(support), unit(queries), epsilon, shift)
    found = scores("bd_cspn", support, queries, epsilon=epsilon, shift=shift, scale=3.0)
    np.testing.assert_allclose(found, 3 * unit(queries) @ unit(means).T, rtol=1e-9)


@pytest.mark.parametrize("neighbours, shift", [(3, True), (2, False), (50, True)])
def test_laplacian_shot(neighbours, shift):
    support, queries = (unit(rows) for rows in task())
    a = 4 * distances(queries, rectified_means(support, queries, 1.0, shift))
    apart = distances(queries, queries)
    y = softmax(-a)
    for _ in range(20):
        logits = -a.copy()
        for q in range(len(queries)):
            others = [p for p in np.argsort(apart[q]) if p != q][:neighbours]
            logits[q] += 0.9 * y[others].sum(0)
        y = softmax(logits)
    options = {"laplacian": 0.9, "scale": 4.0, "neighbours": neighbours, "shift": shift}
    np.testing.assert_allclose(softmax(scores("laplacian_shot", support, queries, **options)), y, rtol=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 5.0, 0.5])
def test_alpha_tim(alpha):
    """With the gradient by hand, through the softmax: dp -> p (dp - sum p dp)."""
    support, queries = (unit(rows) for rows in task())
    weights = np.array([support[k == Y].mean(0) for k in range(WAYS)])
    tau, lr, steps = 7.0, 0.3, 6

    def slope(p):  # of minus the entropy
        return np.log(p) + 1 if alpha == 1 else alpha * p ** (alpha - 1) / (alpha - 1)

    for _ in range(steps):
        p, q = (softmax(-tau / 2 * distances(rows, weights)) for rows in (support, queries))
        of_support = (p - np.eye(WAYS)[Y]) / len(support)
        direct = (slope(q.mean(0)) - slope(q)) / len(queries)
        of_queries = q * (direct - (q * direct).sum(1, keepdims=True))
        moved = np.zeros_like(weights)
        for rows, slopes in ((support, of_support), (queries, of_queries)):
            for k in range(WAYS):
                moved[k] += tau * sum(slopes[i, k] * (rows[i] - weights[k]) for i in range(len(rows)))
        weights = weights - lr * moved
    found = scores("alpha_tim", support, queries, alpha=alpha, scale=tau, lr=lr, steps=steps)
    np.testing.assert_allclose(found, -tau / 2 * distances(queries, weights), rtol=1e-8)


def test_alpha_tim_of_order_1_is_the_limit():
    support, queries = task()
    near, at = (scores("alpha_tim", support, queries, alpha=alpha) for alpha in (1 + 1e-6, 1))
    np.testing.assert_allclose(near, at, rtol=1e-4)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_pt_map(power):
    def transformed(rows):
        return unit(np.where(rows < 0, -1, 1) * (np.abs(rows) + 1e-6) ** power)

    def plan(features, means):
        m = np.exp(-6.0 * distances(features, means))
        for _ in range(20):  # the paper's: not in logarithms
            m = m / m.sum(1, keepdims=True)
            m = m / m.sum(0) * len(features) / WAYS
        return m / m.sum(1, keepdims=True)

    raw = task()
    assert all((rows < 0).any() for rows in raw)
    support, queries = (transformed(rows) for rows in raw)
    means = np.array([support[k == Y].mean(0) for k in range(WAYS)])
    for _ in range(4):
        m = plan(queries, means)
        sums = np.array([support[k == Y].sum(0) for k in range(WAYS)]) + m.T @ queries
        means = means + 0.3 * (sums / (np.bincount(Y) + m.sum(0))[:, None] - means)
    found = scores("pt_map", *raw, power=power, scale=6.0, rate=0.3, steps=4)
    np.testing.assert_allclose(np.exp(found), plan(queries, means), rtol=1e-8)
    assert np.exp(found).sum(0) == pytest.approx([3, 3, 3], abs=0.05)


def test_features_without_a_relu_lose_nothing_to_pt_map():
    """A rotation changes no class; to cut negative features off would."""
    assert evaluate(algorithms.create("pt_map", model=nn.Identity()), points(), **EPISODES).accuracy > 0.85


EPISODES = {"ways": 3, "shots": 1, "queries": 8, "episodes": 60}


@pytest.mark.parametrize("name", NAMES)
def test_queries_help_each_other(name):
    head, alone = (algorithms.create(each, model=nn.Identity()) for each in (name, "simple_shot"))
    assert head.transductive and head.together and not alone.together
    assert evaluate(head, points(), **EPISODES).accuracy > evaluate(alone, points(), **EPISODES).accuracy + 0.02


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("queries", [0, 1, 2])
def test_few_queries_are_decided_as_by_the_class_means(name, queries):
    agreed = []
    for seed in range(20):
        support, rows = task(queries, seed=seed)
        found = scores(name, support, rows, **({"power": 1.0} if name == "pt_map" else {}))
        assert found.shape == (queries, WAYS) and np.isfinite(found).all()
        agreed += list(found.argmax(1) == scores("simple_shot", support, rows).argmax(1))
    assert not agreed or np.mean(agreed) >= 0.85


def test_alpha_tim_stands_unbalanced_queries_better_than_pt_map():
    split, unbalanced = points(per_class=30), {**EPISODES, "dirichlet": 2.0}
    tim, pt_map, alone = (
        evaluate(algorithms.create(name, model=nn.Identity()), split, **unbalanced).accuracy
        for name in ("alpha_tim", "pt_map", "simple_shot")
    )
    assert tim > alone - 0.02 and tim > pt_map + 0.05


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("bd_cspn", {"epsilon": 0.0}, "epsilon is 0.0; it must be a positive number"),
        ("bd_cspn", {"scale": math.nan}, "scale is nan"),
        ("laplacian_shot", {"neighbours": 0}, "neighbours is 0; it must be a whole number of at least 1"),
        ("laplacian_shot", {"laplacian": -1.0}, "laplacian is -1.0"),
        ("alpha_tim", {"alpha": 0.0}, "alpha is 0.0"),
        ("alpha_tim", {"lr": -0.1}, "lr is -0.1"),
        ("pt_map", {"power": 0.0}, "power is 0.0"),
        ("pt_map", {"rate": 1.5}, "rate is 1.5; it must be at most 1"),
        ("pt_map", {"steps": 2.5}, "steps is 2.5"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(InputError, match=message):
        algorithms.create(name, model=nn.Identity(), **options)
