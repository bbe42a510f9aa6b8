"""Several seeds of 2D navigation: kept, not run twice, and the page of what is there."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "navigation"
TINY = ["--iterations", "1", "--tasks", "2", "--trajectories", "2"]


@pytest.fixture
def script(benchmark):
    pytest.importorskip("gymnasium")
    return benchmark("navigation_seeds")


@pytest.mark.long
def test_two_seeds_and_their_page(script, monkeypatch, tmp_path, capsys):
    assert script.main(["--seeds", "0", "1", "--results", str(tmp_path), *TINY]) == 0
    found = [json.loads((tmp_path / f"{seed}.json").read_text()) for seed in (0, 1)]
    assert found[0]["returns"] != found[1]["returns"] and found[0]["tasks"] == 2
    page = (tmp_path / "README.md").read_text()
    assert page in capsys.readouterr().out
    mean = (found[0]["returns"][1] + found[1]["returns"][1]) / 2
    assert f"**{mean:.2f}**" in page and f"| seed 1 | {found[1]['returns'][0]:.2f} ± " in page
    monkeypatch.setattr(script, "run", lambda *_: pytest.fail("it was run again"))
    assert script.main(["--seeds", "0", "1", "--results", str(tmp_path)]) == 0


def test_the_committed_page_is_that_of_its_results(script):
    runs = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    if not runs:
        pytest.skip("it was not run yet")
    assert (RESULTS / "README.md").read_text() == script.page(runs)
