"""Memory against inner steps: the table of a small run, and the page that is committed."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "inner_steps"


@pytest.fixture
def script(benchmark):
    return benchmark("inner_steps")


def test_a_small_table(script, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(script, "WAYS", {name: script.WAYS[name] for name in ("all steps", "checkpoint=True")})
    asked = ["--steps", "2", "--size", "16", "--rounds", "1", "--results", str(tmp_path)]
    assert script.main(asked) == 0
    results, text = json.loads((tmp_path / "results.json").read_text()), (tmp_path / "README.md").read_text()
    assert text == script.page(results) and text in capsys.readouterr().out
    kept, again = (results["cells"][name]["2"] for name in script.WAYS)
    assert kept["gradient"] == again["gradient"] > 0
    assert (
        f"| checkpoint=True | {again['megabytes']:.0f} MB ({again['seconds'][0] / kept['seconds'][0]:.2f}x) |" in text
    )


def test_the_committed_page_is_that_of_its_results(script):
    assert (RESULTS / "README.md").read_text() == script.page(json.loads((RESULTS / "results.json").read_text()))
