"""Labels, arrays, counts and seeds that people hand to the Python functions, and models in half precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_runs import train
from toy import Centroids, Waves, noisy_net, points

from fewshot_kit import adapt, algorithms, datasets, engines, evaluate, models
from fewshot_kit.datasets import Split
from fewshot_kit.episodes import Episode, split, stack
from fewshot_kit.errors import InputError

X, Y = points().x[:36:2], points().y[:36:2]
TASK = {"ways": 3, "shots": 2, "queries": 4}


def batch(tasks=2):
    return points().episodes(3, 2, 4, tasks, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (3, "The labels are 3, of type int; give one label for each example, in a list"),
        (None, "The labels are None, of type NoneType"),
        ("aab", "The labels are 'aab', of type str"),
        ([0, 1, None] * 6, "6 of the 18 labels are missing"),
        (iter([0, 1]), "18 examples came with 2 labels"),
    ],
)
def test_labels_of_a_support_set(labels, said):
    with pytest.raises(InputError, match=said):
        adapt(noisy_net(), (X, labels))


@pytest.mark.parametrize(
    "labels",
    [Y[:, None], Y.tolist(), Y[:, None].tolist(), Y.numpy(), Y.numpy()[:, None], Y.int(), "generator"],
)
def test_labels_that_are_clear_enough(labels):
    given = (int(y) for y in Y) if isinstance(labels, str) else labels
    assert adapt(noisy_net(), (X, given)).classes == [0, 1, 2]
    given = (int(y) for y in Y) if isinstance(labels, str) else labels
    assert torch.equal(Split.from_arrays(X, given).y, Y)


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (X, 3, "The labels of data are 3, no list; give one label for each example"),
        (X, None, "The labels of data are None, no list"),
        (X, [None] * 18, "Label 0 of data is None; give one int or string for each example"),
        (X, [[0, 1]] * 18, r"Label 0 of data is \[0, 1\]"),
        (X, [0], "data has 18 examples but 1 labels"),
        (
            [[1.0, 2.0], [3.0]],
            [0, 1],
            r"data make no tensor \(.*\); give numbers, in arrays of one shape",
        ),
        ([torch.ones(2), torch.ones(3)], [0, 1], "The examples of data make no tensor"),
        (None, [0, 1], "The examples of data make no tensor"),
        (7, [0, 1], "The examples of data are one number, 7"),
    ],
)
def test_arrays_that_make_no_split(x, y, said):
    with pytest.raises(InputError, match=said):
        Split.from_arrays(x, y)


def test_a_split_of_what_is_no_tensor():
    with pytest.raises(InputError, match="The labels of data are a list; give a tensor, or use Split.from_arrays"):
        Split(X, Y.tolist(), ["a", "b", "c"])


@pytest.mark.parametrize(
    "x",
    [
        [torch.ones(2), torch.ones(3)],
        [[1.0, 2.0], [3.0]],
        [np.ones((2, 2)), np.ones((2, 3))],
        [[[1.0], [1.0, 2.0]]] * 2,
    ],
)
def test_a_ragged_support_set(x):
    with pytest.raises(InputError, match="Example 1 has shape .*, the first one|rows of different lengths"):
        adapt(noisy_net(), (x, [0, 1]))


def test_ragged_episodes():
    short = Episode(*(tensor[0] for tensor in points().episodes(3, 1, 4, 1)))
    with pytest.raises(InputError, match=r"Episode 1 has support_x of shape \[3, 6\], the first one \[6, 6\]"):
        stack([Episode(*(tensor[0] for tensor in batch())), short])
    with pytest.raises(InputError, match=r"The labels have shape \[18, 1\]"):
        split(X, Y[:, None], 1)


HUGE = 2**63


@pytest.mark.parametrize("name", ["ways", "shots", "queries"])
def test_counts_beyond_what_torch_counts(name):
    for run in (
        lambda **task: points().episodes(**{**TASK, **task}, meta_batch=1),
        lambda **task: evaluate(Centroids(noisy_net()), points(), **{**TASK, **task}),
        lambda **task: evaluate(Centroids(noisy_net()), Waves(), **{**TASK, **task}),
        lambda **task: train(Centroids(noisy_net()), **task),
        lambda **task: datasets.create("sinusoid").train.episodes(
            **{"ways": 1, "shots": 2, "queries": 2} | task, meta_batch=1
        ),
    ):
        with pytest.raises(InputError, match=rf"{name} is 9223372036854775808; it must be at most 2147483647|one wave"):
            run(**{name: HUGE})
    with pytest.raises(InputError, match="meta_batch is 9223372036854775808; it must be at most"):
        points().episodes(3, 1, 1, HUGE)
    with pytest.raises(InputError, match=r"episodes is 2\*\*33219 or more; it must be at most"):
        evaluate(Centroids(noisy_net()), points(), **TASK, episodes=10**10000)


def test_sizes_of_data_sets_and_rates_beyond_all_floats():
    for option in ("classes", "drawings", "image_size"):
        with pytest.raises(InputError, match=f"{option} is 9223372036854775808; it must be at most"):
            datasets.create("glyphs", **{option: HUGE})
    with pytest.raises(InputError, match="count is 9223372036854775808; it must be at most"):
        points().labelled(HUGE)
    with pytest.raises(InputError, match="num_tasks is 9223372036854775808; it must be at most"):
        points().tasks(3, 1, 1, num_tasks=HUGE)
    with pytest.raises(InputError, match="meta_batch is 9223372036854775808; it must be at most"):
        datasets.create("sinusoid").train.episodes(1, 1, 1, HUGE)
    for rates in ({"lr": 10**400}, {"head_lr": 10**5000}, {"clip": 10**400}):
        with pytest.raises(InputError, match=r"is 2\*\*\d+ or more; it must be a positive number"):
            algorithms.create("maml", model=noisy_net(), **rates)
    with pytest.raises(InputError, match="steps is 9223372036854775808; it must be at most"):
        algorithms.create("maml", model=noisy_net(), steps=HUGE)


@pytest.mark.parametrize("what", ["examples", "labels"])
def test_a_support_set_without_values(what):
    x, y = (X.to("meta"), Y) if what == "examples" else (X, Y.to("meta"))
    with pytest.raises(InputError, match="on the device 'meta', which holds no values"):
        adapt(noisy_net(), (x, y))


def test_counts_of_numpy_are_counts():
    assert points().episodes(np.int64(3), np.int32(1), 1, np.int64(2)).query_x.shape == (2, 3, 6)


def test_seeds():
    for seed, said in (
        (2**64, r"seed is 18446744073709551616; it must fit into 64 bits, from -2\*\*63 to 2\*\*64 - 1"),
        (-(2**63) - 1, "it must fit into 64 bits"),
        (10**10000, r"seed is 2\*\*33219 or more"),
        (None, "seed is None; it must be a whole number"),
        (1.0, "seed is 1.0; it must be a whole number"),
        (True, "seed is True; it must be a whole number"),
    ):
        for run in (
            lambda seed: evaluate(Centroids(noisy_net()), points(), **TASK, episodes=1, seed=seed),
            lambda seed: train(Centroids(noisy_net()), iterations=1, seed=seed),
            lambda seed: datasets.create("glyphs", classes=10, drawings=4, seed=seed),
            lambda seed: models.create("conv4", seed=0 if seed is None else seed),
        ):
            if seed is None and "models" in run.__code__.co_names:  # the usual draws of any module
                continue
            with pytest.raises(InputError, match=said):
                run(seed)
    for seed in (2**64 - 1, -(2**63), np.int64(3)):
        evaluate(Centroids(noisy_net()), points(), **TASK, episodes=1, seed=seed)
        datasets.create("glyphs", classes=10, drawings=4, seed=int(seed))


def test_a_seed_in_place_of_a_generator():
    for seed in (0, 5):
        with pytest.raises(InputError, match=f"The generator is {seed}; give torch.Generator"):
            points().episodes(3, 1, 1, 1, generator=seed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", algorithms.names())
def test_half_precision(name, dtype):
    """Every algorithm adapts and is evaluated; the scores are those of float32, as far as so few bits tell."""
    algorithm = algorithms.create(name, model=noisy_net()).eval()
    with torch.no_grad():
        expected = algorithm.predict(algorithm.adapt(X, Y), X)
    half = algorithm.to(dtype)
    with torch.no_grad():
        found = half.predict(half.adapt(X.to(dtype), Y), X.to(dtype))
    assert found.isfinite().all() and (found.argmax(-1) == expected.argmax(-1)).double().mean() > 0.7
    assert evaluate(half, points(), **TASK, episodes=2).not_finite == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_training_in_half_precision(dtype):
    """The heads in closed form are differentiated through."""
    for name, options in (("r2d2", {}), ("anil", {"closed_form": True})):
        algorithm = algorithms.create(name, model=noisy_net(), **options).to(dtype)
        losses, scores = engines.meta_backward(
            algorithm,
            batch()._replace(support_x=batch().support_x.to(dtype), query_x=batch().query_x.to(dtype)),
            "loop",
        )
        assert losses.isfinite().all() and scores.isfinite().all()
        assert all(
            p.grad.isfinite().all() and p.grad.dtype == dtype for p in algorithm.parameters() if p.grad is not None
        )
