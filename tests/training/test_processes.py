"""A run that several processes share gives what one process gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from shared_runs import SCENARIOS, outcome, started

from fewshot_kit.engines import Processes
from fewshot_kit.engines.workers import one_thread
from fewshot_kit.errors import InputError
from fewshot_kit.training.settings import TrainingSettings

HERE = Path(__file__).parent
EXACT = [name for name in SCENARIOS if SCENARIOS[name][1].get("exact")]


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """What one process gives, by scenario."""
    with one_thread():
        return {name: outcome(name, Processes()) for name in SCENARIOS}


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of 2 or 4 processes gives, by scenario."""
    folder, size = tmp_path_factory.mktemp("group"), request.param
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, HERE / "shared_runs.py", folder, str(rank), str(size)] for rank in range(size)]
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for command in commands]
    errors = [process.communicate(timeout=300)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * size, "\n".join(errors)
    return [torch.load(folder / f"{size}-{rank}.pt") for rank in range(size)]


def flat(found: dict[str, Any]) -> dict[str, float]:
    """Every number of an outcome, by where it stands."""
    numbers: dict[str, float] = {}

    def visit(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for key, item in value.items():
                visit(item, f"{path}/{key}")
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                visit(item, f"{path}/{index}")
        elif isinstance(value, torch.Tensor):
            visit(value.tolist(), path)
        elif not isinstance(value, str):
            numbers[path] = -1.0 if value is None else value

    visit(found, "")
    return numbers


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in EXACT])
def test_figures_and_weights_are_those_of_one_process(alone, together, name):
    """In float64; the sums are added in another order."""
    one = flat(alone[name])
    for each in together:
        assert flat(each[name]) == pytest.approx(one, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", EXACT)
def test_exact_runs_have_the_same_bits(alone, together, name):
    for each in together:
        assert flat(each[name]) == flat(alone[name])


@pytest.mark.parametrize("name", SCENARIOS)
def test_all_processes_end_alike(together, name):
    for each in together[1:]:
        assert flat(each[name]) == flat(together[0][name])


def test_tasks_move_buffers_as_if_they_were_run_in_one_process(alone):
    """Every meta-batch has five tasks, each with two calls in training mode, of support and of queries."""
    found = alone["moved buffers"]
    assert found["state"]["model.calls"] == found["best"]["iteration"] * 5 * 2


def test_updates_are_left_out_by_all(alone, together):
    assert {each["skipped updates"]["skipped"] for each in together} == {alone["skipped updates"]["skipped"]}
    assert 0 < alone["skipped updates"]["skipped"] < 6


def test_a_run_starts_from_one_that_has_just_ended(together, tmp_path):
    """Whose folder the first process alone has written."""
    with one_thread():
        one = flat(started(tmp_path / "run"))
    for each in together:
        assert flat(each["started"]) == pytest.approx(one, rel=1e-10, abs=1e-10)


def test_a_mistake_that_the_first_process_finds_is_known_to_all(together):
    assert {each["refused"] for each in together} == {"The first process found a mistake."}


@pytest.mark.parametrize(("count", "size"), [(8, 4), (5, 2), (3, 4), (1, 3), (17, 5)])
def test_slices_cover_every_episode_once_and_are_even(count, size):
    parts = [list(range(count)[Processes(rank, size).part(count)]) for rank in range(size)]
    assert [index for part in parts for index in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    owners = [Processes(0, size).owner(index, count) for index in range(count)]
    assert owners == [rank for rank, part in enumerate(parts) for _ in part]


@pytest.mark.parametrize("settings", [{"engine": "vmap"}, {"engine": "loop", "workers": 2}, {"compile": True}])
def test_exact_refuses_engines_that_mix_episodes(settings):
    with pytest.raises(InputError, match=r"exact runs|leave|'loop'"):
        TrainingSettings(exact=True, **settings)
