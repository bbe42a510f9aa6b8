"""Queries whose class proportions come from a Dirichlet distribution."""

import json

import pytest
import torch
from command_line import TINY
from test_sampler import generator, images, numbered
from toy import Centroids, Waves, noisy_net, points

from fewshot_kit import datasets, evaluate
from fewshot_kit.datasets.splits.unbalanced import query_counts
from fewshot_kit.errors import InputError


@pytest.mark.parametrize("alpha", [0.5, 2.0, 20.0])
def test_proportions_have_the_moments_of_the_distribution(alpha):
    """Mean 1 / K, variance (K - 1) / (K^2 (K alpha + 1)), covariance -1 / (K^2 (K alpha + 1))."""
    tasks, ways, total = 40_000, 5, 1000
    shares = query_counts(torch.full((tasks, ways), total), total, alpha, generator()).double() / total
    variance = (ways - 1) / (ways**2 * (ways * alpha + 1))
    assert (shares.mean(0) - 1 / ways).abs().max() < 5 * (variance / tasks) ** 0.5
    assert shares.var(0).div(variance).sub(1).abs().max() < 0.05
    assert torch.cov(shares.T)[0, 1].item() == pytest.approx(-variance / (ways - 1), rel=0.08)


@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 0.3, 2.0, 1e6, 1e308])
@pytest.mark.parametrize("room", [[5, 3, 7, 6], [40, 3, 3, 3], [5, 5, 5, 5], [100, 100, 100, 100]])
def test_no_class_gives_more_than_it_has(alpha, room):
    room = torch.tensor(room).expand(200, -1)
    counts = query_counts(room, 20, alpha, generator())
    assert (counts.sum(1) == 20).all() and (counts >= 0).all() and (counts <= room).all()


def test_what_a_class_has_no_room_for_goes_to_the_others_in_proportion():
    free = query_counts(torch.full((50, 3), 1000), 1000, 2.0, generator())
    room = torch.tensor([100, 1000, 1000]).expand(50, -1)
    capped = query_counts(room, 1000, 2.0, generator())
    full = free[:, 0] > 100
    assert full.any() and (capped[full, 0] == 100).all() and torch.equal(capped[~full], free[~full])
    expected = 900 * free[full, 1] / (free[full, 1] + free[full, 2])
    assert (capped[full, 1] - expected).abs().max() < 3


def test_an_unbalanced_episode():
    split = numbered([13, 30, 12, 40, 12, 14])
    episode = split.episodes(4, 2, 5, 50, generator(), dirichlet=0.5)
    assert [tuple(t.shape) for t in episode] == [(50, 8, 2), (50, 8), (50, 20, 2), (50, 20)]
    counts = torch.stack([y.bincount(minlength=4) for y in episode.query_y])
    assert counts.max() > 12 and counts.min() == 0
    for task in range(50):
        rows = torch.cat([episode.support_x[task], episode.query_x[task]])
        assert len(rows.unique(dim=0)) == 8 + 20  # nothing twice
        labels = torch.cat([episode.support_y[task], episode.query_y[task]])
        assert len(torch.stack([labels.float(), rows[:, 0]], 1).unique(dim=0)) == 4  # one class for a label
        assert episode.query_y[task].tolist() == sorted(episode.query_y[task].tolist())


@pytest.mark.parametrize("rotations", ["none", "classes", "per_class"])
def test_classes_and_support_sets_are_those_of_the_balanced_draw(rotations):
    split = images(rotations, each=8)
    plain, other = (split.episodes(3, 2, 3, 9, generator(), dirichlet=alpha) for alpha in (None, 1.0))
    assert torch.equal(plain.support_x, other.support_x) and torch.equal(plain.support_y, other.support_y)
    assert not torch.equal(plain.query_y, other.query_y)
    assert set(other.query_x.flatten(0, 1).flatten(1).sum(1).tolist()) <= set(turned_sums(split))


def turned_sums(split):
    x = split.x.float() / 255
    return torch.cat([x.rot90(quarter, (-2, -1)).flatten(1).sum(1) for quarter in range(4)]).tolist()


def test_large_concentration_is_balanced():
    split = numbered([31] * 6)
    plain, other = (split.episodes(5, 1, 15, 4, generator(), dirichlet=alpha) for alpha in (None, 1e12))
    assert all(torch.equal(one, two) for one, two in zip(plain, other, strict=True))


def test_evaluation_records_it():
    algorithm, task = Centroids(noisy_net()), {"ways": 3, "shots": 2, "queries": 4, "episodes": 20}
    plain, found, again = (evaluate(algorithm, points(), **task, dirichlet=alpha) for alpha in (None, 2, 2))
    assert found == again and found.per_episode != plain.per_episode
    assert (plain.dirichlet, found.dirichlet, found.to_dict()["dirichlet"]) == (None, 2, 2)
    assert "3-way 2-shot, queries by Dirichlet(2), train)" in str(found) and "Dirichlet" not in str(plain)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_a_concentration_that_is_none(alpha):
    for ask in (
        lambda: evaluate(Centroids(noisy_net()), points(), ways=3, dirichlet=alpha, queries=2),
        lambda: points().episodes(3, 1, 2, 1, dirichlet=alpha),
    ):
        with pytest.raises(InputError, match=f"dirichlet is {alpha}; it must be a positive number"):
            ask()


def test_classes_that_are_too_small_would_balance_the_queries():
    split = numbered([11, 12, 10])
    split.check(2, 2, 8)
    for ask in (lambda: split.episodes(2, 2, 5, 1, dirichlet=2.0), lambda: split.check(2, 2, 5, dirichlet=2.0)):
        with pytest.raises(
            InputError, match="'class 0' .* 11 examples, .* 2 shots \\+ twice 5 unbalanced queries = 12 "
        ):
            ask()


def test_what_has_no_classes_says_so():
    for split in (Waves(), datasets.create("sinusoid").test):
        with pytest.raises(InputError, match="cannot draw unbalanced queries, as it has no classes .* dirichlet=2 out"):
            evaluate(Centroids(noisy_net()), split, ways=1, dirichlet=2.0)


def test_the_flag(cli, tmp_path):
    run = tmp_path / "run"
    cli.good(f"train {TINY} --algorithm protonet --ways 3 --shots 1 --run {run}")
    ask = f"evaluate {run} --episodes 4"
    plain, found = (json.loads(cli.good(f"{ask} --json{flag}")) for flag in ("", " --dirichlet 0.5"))
    assert plain["dirichlet"] is None and found["dirichlet"] == 0.5 and plain["loss"] != found["loss"]
    assert "queries by Dirichlet(0.5)" in cli.good(f"{ask} --dirichlet 0.5")
    assert "dirichlet is 0.0; it must be a positive number" in cli.refused(f"{ask} --dirichlet 0")
    assert "'two' is no number" in cli.refused(f"{ask} --dirichlet two")
