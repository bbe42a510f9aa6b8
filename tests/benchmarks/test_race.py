"""The race against time: what is written is what was measured, by a clock that stands still while it asks."""

import json
import time
from pathlib import Path

import pytest
import torch
from small_runs import centroids, train

from fewshot_kit import datasets, models

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "race"


@pytest.fixture
def race(benchmark):
    return benchmark("race")


def test_the_clock_stands_still_while_it_asks(race):
    clock = race.Clock(lambda _: time.sleep(0.2) or 0.5, every=0, limit=60)
    train(centroids(), iterations=5, hooks=[clock])
    assert len(clock.points) == 5 and clock.points[-1][0] < 1 and clock.points[-1][1] == 0.5


def test_what_is_reached_and_when(race):
    values = iter([0.5, 0.91, 0.9, 0.96])

    def entrant(clock):
        clock.on_start(None)
        for _ in range(4):
            clock.look(None)

    found = race.race({"one": entrant}, lambda _: next(values), every=0, limit=60)["one"]
    assert [value for _, value in found["points"]] == [0.5, 0.91, 0.9, 0.96]
    assert found["reached"]["0.9"] == found["points"][1][0] and found["reached"]["0.97"] is None


def test_time_that_is_over_ends_an_entrant(race):
    def endless(clock):
        clock.on_start(None)
        while True:
            time.sleep(0.01)
            clock.look(None)

    assert race.race({"one": endless}, lambda _: 0.5, every=0, limit=0.05)["one"]["points"]


def test_who_has_the_last_accuracy_is_done(race):
    values = iter([0.97, 0.99, 0.5])

    def entrant(clock):
        clock.on_start(None)
        while True:
            clock.look(None)

    found = race.race({"one": entrant}, lambda _: next(values), every=0, limit=60)["one"]
    assert len(found["points"]) == 2 and found["reached"]["0.98"] is not None


def test_learn2learns_loop_is_asked_after_a_meta_update(race, data_root):
    """And what is asked is the network that it trains."""
    data = datasets.create("futurama", root=data_root)
    seen = []
    clock = race.Clock(lambda algorithm: seen.append(algorithm.model.head.weight.detach().clone()) or 0.5, 0, 0.0)
    with pytest.raises(race.Done):
        race.its_loop(data, clock)
    assert len(seen) == 1 and not torch.equal(seen[0], models.create("conv4", ways=5, seed=0).head.weight)


def test_the_committed_page_is_that_of_its_results(race):
    if not (RESULTS / "results.json").exists():
        pytest.skip("it was not run yet")
    results = json.loads((RESULTS / "results.json").read_text())
    assert (RESULTS / "README.md").read_text() == race.page(results)
