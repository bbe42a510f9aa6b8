"""Draws among very many classes, and the part of a meta-batch that one process gathers."""

from __future__ import annotations

import itertools

import pytest
import torch

from fewshot_kit.datasets.splits.part import Part
from fewshot_kit.datasets.splits.sampler import LARGE, distinct
from fewshot_kit.datasets.splits.split import Split
from fewshot_kit.episodes import Episode


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_numbers_of_many_are_distinct_and_below_the_size():
    sizes = torch.tensor([LARGE + 1, 10**6, 10**9])[:, None].expand(3, 200)
    found = distinct(sizes, 12, generator())
    assert found.shape == (3, 200, 12)
    assert (found >= 0).all()
    assert (found < sizes[..., None]).all()
    assert (found.sort(-1).values.diff(dim=-1) > 0).all()


def test_numbers_of_many_are_uniform_in_every_order(monkeypatch):
    """Of 4 numbers 3 in order: 24 outcomes. Chi-squared of 23 degrees of freedom is above 49.7 once in 1,000 times."""
    monkeypatch.setattr("fewshot_kit.datasets.splits.sampler.LARGE", 1)
    found = distinct(torch.full((24_000,), 4), 3, generator())
    number = dict.fromkeys(itertools.permutations(range(4), 3), 0)
    for row in found.tolist():
        number[tuple(row)] += 1
    assert sum((count - 1000) ** 2 / 1000 for count in number.values()) < 49.7


def test_all_numbers_of_one_size_are_drawn(monkeypatch):
    monkeypatch.setattr("fewshot_kit.datasets.splits.sampler.LARGE", 1)
    assert distinct(torch.full((50,), 6), 6, generator()).sort(-1).values.tolist() == [list(range(6))] * 50


@pytest.fixture
def split() -> Split:
    x = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8, generator=generator())
    return Split(x, torch.arange(60) // 6, [str(index) for index in range(10)], rotations="classes")


@pytest.mark.parametrize("part", [slice(0, 2), slice(2, 5), slice(3, 3)])
@pytest.mark.parametrize("dirichlet", [None, 2.0])
def test_a_part_gathers_its_slice_of_what_all_draw(split, part, dirichlet):
    task = {"ways": 3, "shots": 1, "queries": 2, "meta_batch": 5, "dirichlet": dirichlet}
    whole = split.episodes(**task, generator=generator(3))
    some = Part(split, 5, part).episodes(**task, generator=generator(3))
    for each, all_ in zip(some, whole, strict=True):
        assert torch.equal(each, all_[part])
    assert isinstance(some, Episode)


def test_a_part_gathers_its_share_of_labelled_batches(split):
    x, y = split.labelled(20, generator(5))
    some_x, some_y = Part(split, 4, slice(1, 3)).labelled(20, generator(5))
    assert torch.equal(some_x, x[5:15])
    assert torch.equal(some_y, y[5:15])
