"""benchmarks/soak.py: what it attacks, and the page of it."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest


@pytest.fixture
def soak(benchmark):
    return benchmark("soak")


def test_the_page_is_made_of_the_results_and_nothing_was_lost(soak):
    found = json.loads((soak.RESULTS / "soak.json").read_text())
    assert (soak.RESULTS / "soak.md").read_text() == soak.page(found)
    assert soak.bad(found) == 0
    assert sum(row["injected"] for row in found["kills"]) >= 100


def test_bad_counts_all_that_went_wrong(soak):
    rows = {
        "kills": [{"lost": 1, "injected": 5}, {"lost": 0}],
        "damage": [{"wrongly accepted": 2, "crashed": 1, "refused": 7}],
        "malice": [{"crashed": 3, "works": 4}],
    }
    assert soak.bad(rows) == 7


@pytest.mark.parametrize("place", ["before", "torn", "after"])
def test_a_process_kills_itself_where_it_is_told_to(soak, tmp_path, place):
    """In the second write: the second is there or not, and the temporary file of a torn one is half as long."""
    from soak_jobs import work

    from fewshot_kit.runs.storage import write_bytes

    def write() -> None:
        with work.killed_while_writing(2, place):
            write_bytes(tmp_path / "one", b"first")
            write_bytes(tmp_path / "one", b"second")

    assert work.in_a_process(write).status is None
    assert (tmp_path / "one").read_bytes() == (b"second" if place == "after" else b"first")
    left = [path.stat().st_size for path in tmp_path.iterdir() if path.name != "one"]
    assert left == {"before": [6], "torn": [3], "after": []}[place]


def test_ends_are_told_apart(soak):
    from soak_jobs import work

    assert work.in_a_process(lambda: None).status == 0
    assert work.in_a_process(lambda: 1 / 0).status == 1
    assert work.in_a_process(lambda: os.kill(os.getpid(), signal.SIGKILL)).status is None
    assert work.in_a_process(signal.pause, kill_after=0.1).status is None


def test_a_changed_file_that_is_read_otherwise_is_noticed(soak, tmp_path):
    """The judge itself: refused by name, refused without it, read as it was, read otherwise, failed."""
    from soak_jobs import damage

    from fewshot_kit.errors import InputError

    def refuse(said: str):
        def read(path: Path) -> None:
            raise InputError(said)

        return read

    judged = [
        damage._outcome(read, tmp_path, 5, "x.yaml")
        for read in (refuse("x.yaml is damaged."), refuse("It is damaged."), lambda _: 5, lambda _: 6, lambda _: 1 / 0)
    ]
    assert judged == ["refused", "crashed", "of no consequence", "wrongly accepted", "crashed"]


def test_learners_and_caches_survive(soak, tmp_path):
    from soak_jobs import kills

    (tmp_path / "a").mkdir()
    dice = random.Random(3)
    with pytest.warns(UserWarning, match="support examples right"):
        assert kills._learners(2, dice, tmp_path / "a") == (2, 2)
    assert kills._caches(2, dice, tmp_path) == (2, 2)
