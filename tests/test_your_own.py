"""docs/your-own.md: its algorithms are what they say, keep the contract, and run under `vmap`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.testing import check_algorithm
from fewshot_kit.testing.algorithm import meta_batch, small_network

PAGE = Path(__file__).parents[1] / "docs" / "your-own.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def page():
    """What the page's Python defines; what it registers is forgotten afterwards."""
    registry, defined = algorithms.register.__self__, {}
    before = dict(registry._factories)
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), defined)
    yield defined
    registry._factories.clear()
    registry._factories.update(before)


def test_the_examples_are_short():
    assert len(BLOCKS) == 4 and all(len(block.strip().splitlines()) <= 30 for block in BLOCKS)


@pytest.mark.parametrize("name", ["NearestMean", "ALFA", "CosineHead"])
def test_they_keep_the_contract(page, name):
    check_algorithm(page[name])


def test_the_check_of_the_page_passes(page):
    page["test_alfa"]()


@pytest.mark.parametrize("name", ["NearestMean", "ALFA", "CosineHead"])
def test_auto_may_take_vmap(page, name):
    algorithm = page[name](small_network().double())
    losses, _ = engines.meta_backward(algorithm, meta_batch(2), "vmap")
    assert losses.isfinite().all()


def test_only_exported_names_are_used():
    imported = re.findall(r"^from (fewshot_kit[\w.]*) import (.+)$", "\n".join(BLOCKS), re.MULTILINE)
    assert {module for module, _ in imported} == {"fewshot_kit", "fewshot_kit.algorithms", "fewshot_kit.testing"}
    exported = set(algorithms.__all__)
    of_algorithms = {n for module, names in imported if module == "fewshot_kit.algorithms" for n in names.split(", ")}
    assert of_algorithms <= exported


def test_alfa_by_hand(page):
    """One step: b p - a g, with the slopes by autograd and the small network's outputs put in by hand."""
    algorithm = page["ALFA"](small_network().double(), lr=0.2).eval()
    x, y, _, _ = (tensor[0] for tensor in meta_batch(1))
    parameters = dict(algorithm.model.named_parameters())
    network = algorithm.model.train()
    slopes = dict(
        zip(parameters, torch.autograd.grad(F.cross_entropy(network(x), y), list(parameters.values())), strict=True)
    )
    network.eval()
    seen = torch.stack([torch.stack([p.mean(), slopes[name].mean()]) for name, p in parameters.items()])
    rate, decay = algorithm.generator(seen).unbind(1)
    found = algorithm.adapt(x, y)["parameters"]
    for place, (name, p) in enumerate(parameters.items()):
        expected = (1 - 0.01 * decay[place].sigmoid()) * p - 0.2 * (1 + rate[place]) * slopes[name]
        torch.testing.assert_close(found[name], expected, rtol=1e-9, atol=1e-12)


def test_the_cosine_head_is_that_of_the_kit(page):
    """With features of length 1 it is `cosine`, but for where it starts: sums of features in place of means."""
    task = [tensor[0] for tensor in meta_batch(1)]
    mine = page["CosineHead"](small_network().double(), batch_norm="support").eval()
    kits = algorithms.create("cosine", model=small_network().double(), batch_norm="support").eval()
    state = mine.adapt(*task[:2])
    features, _ = mine.embed_support(task[0])
    assert state["weights"].shape == (3, features.shape[1])
    assert mine.predict(state, task[2]).shape == kits.predict(kits.adapt(*task[:2]), task[2]).shape
    kept = mine.missed(state["weights"], features, F.one_hot(task[1]).double())
    start = mine.missed(F.one_hot(task[1]).double().T @ features, features, F.one_hot(task[1]).double())
    assert kept < start
