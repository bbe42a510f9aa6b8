"""benchmarks/scaling.py: the page is made of the measurements, and the model of what was measured."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def scaling(benchmark):
    return benchmark("scaling")


def test_the_page_is_made_of_the_results(scaling):
    found = json.loads((scaling.FOLDER / "results.json").read_text())
    assert (scaling.FOLDER / "README.md").read_text() == scaling.page(found)


def test_a_link_is_fitted_to_its_line(scaling):
    points = [[size, 2e-4 + 3e-9 * size] for size in (1e3, 1e5, 1e7)]
    link = scaling.shared.Link.fitted(points)
    assert (link.latency, link.per_byte) == pytest.approx((2e-4, 3e-9))
    assert link.all_reduce(1e6, 2) == pytest.approx(2e-4 + 3e-9 * 1e6), "two processes take what was fitted"


def test_a_projection_by_hand(scaling):
    """Four processes of 10 tasks of 1 ms; 5 ms besides; 6 messages of 1 ms; 0.5 ms a draw is hidden, 2 ms is not."""
    link = scaling.shared.Link(latency=1e-3, per_byte=0.0)
    one = {"step": 0.105, "gradients": 0.1, "bytes": 1000, "draws_of_1024": 1024 * 5e-4}
    found = scaling.shared.projected(one, link, 4, 10, 1e-3)
    assert found["sent"] == pytest.approx(2 * 6 * 0.5e-3)
    assert found["step"] == pytest.approx(max(0.01 + 0.005 + 0.006, 40 * 5e-4))
    slow = scaling.shared.projected(one | {"draws_of_1024": 1024 * 2e-3}, link, 4, 10, 1e-3)
    assert slow["step"] == pytest.approx(40 * 2e-3)
    assert slow["efficiency"] == pytest.approx(0.015 / 0.08)


@pytest.mark.long
def test_what_is_measured(scaling, tmp_path):
    """A process alone, with two tasks."""
    found = scaling.shared.measured(1, 1, 2, 1, tmp_path)
    assert found["processes"] == found["threads"] == 1 and found["learn2learn"] > 0
    assert 0 < found["gradients"] < found["step"] * 2
    weights = 640 + 3 * 36_928 + 4 * 128 + 325  # convolutions, batch norms, head; then which of 18 have a gradient
    assert found["bytes"] == 4 * (weights + 18 + 4 * (64 + 64 + 1))
    rows = [scaling.classes.measured(kind, 50, 1, tmp_path) for kind in ("glyphs", "mapped", "held")]
    assert all(row["seconds"] > 0 and row["classes"] == 50 for row in rows)
