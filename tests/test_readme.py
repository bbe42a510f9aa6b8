"""What the README says is so: its figures are those of the committed results, its commands and Python run."""

import json
import re
import shlex
import statistics
from pathlib import Path

import pytest

from fewshot_kit.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "benchmarks" / "results"


def test_the_omniglot_figure_is_the_measured_one():
    """Of the default command: its own training and that of the network that it starts from."""
    found = [json.loads(path.read_text()) for path in sorted((RESULTS / "accuracy" / "omniglot").glob("maml.*.json"))]
    figures, first = [one["figures"]["5w1s"]["own"] for one in found], found[0]
    start = json.loads((RESULTS / "accuracy" / "omniglot" / "protonet.0.json").read_text())
    means = [100 * figure["accuracy"] for figure in figures]
    mean, half = statistics.fmean(means), 100 * statistics.fmean(figure["interval"] for figure in figures)
    flat = " ".join(README.split())
    assert f"**{mean:.2f} ± {half:.2f} %**" in README and len(means) == 3
    assert f"three seeds of split, weights and episodes ({', '.join(f'{each:.2f}' for each in means)})" in flat
    assert first["start"]["algorithm"] == "protonet" and {figure["batch_norm"] for figure in figures} == {"running"}
    before, after = start["seconds"]["training"] / 60, first["seconds"]["training"] / 60
    assert f"after {before + after:.0f} minutes of one CPU core, {before:.0f} of them" in flat


def test_the_race_is_what_was_measured():
    found = json.loads((RESULTS / "race" / "results.json").read_text())
    ours, theirs = (found["entrants"][name] for name in ("kit, its default command", "learn2learn, its maml and loop"))
    flat = " ".join(README.split())
    assert (
        f"90 % after {ours['reached']['0.9']:.0f} s of training and in 97 % after {ours['reached']['0.97']:.0f} s"
        in flat
    )
    best = max(value for _, value in theirs["points"])
    assert f"has come to {100 * best:.1f} % in {found['limit']:.0f} s" in flat
    same = found["entrants"]["kit, maml with learn2learn's settings"]["points"]
    there = next(seconds for seconds, value in same if value >= best)
    assert f"the kit's MAML has {100 * best:.1f} % after {there:.0f} s" in flat
    assert f"is right in 90 % after {theirs['reached']['0.9']:.0f} s and has come to" in flat
    assert found["machine"]["threads"] == 2 and theirs["reached"]["0.97"] is None


@pytest.mark.parametrize("name", ["futurama", "omniglot"])
def test_the_tables_are_the_generated_ones(name):
    """Every line of the page's first grid that has a figure."""
    page = (RESULTS / "accuracy" / name / "README.md").read_text()
    grid = page.split("\n\n| ")[1].split("\n\n")[0].splitlines()
    lines = [line for line in grid[1:] if not re.fullmatch(r"\|[^|]*\|( not run \|)+.*", line)]
    assert len(lines) > 1 and all(line in README for line in lines)


def test_the_first_examples_figures_are_the_measured_ones():
    results = json.loads((RESULTS / "few_photos" / "results.json").read_text())
    rows = {row["name"]: row for row in results["settings"]["5-shot"]}
    ours, theirs = rows["adapt without options"], rows["LogisticRegression, L2-normalised"]
    told = next(row for row in results["expected"] if row["shots"] == 5)
    seconds = next(whole["rows"][0]["seconds"] for whole in results["whole"] if whole["shots"] == 5)
    flat = " ".join(README.split())
    assert f"**{100 * ours['accuracy']:.1f} ± {100 * ours['interval']:.1f} %**" in flat
    assert f"scikit-learn's logistic regression on the same features {100 * theirs['accuracy']:.1f} %" in flat
    assert f"expected {100 * told['expected']:.1f} %" in flat and f"{seconds:.0f} seconds a task" in flat
    assert f"{results['episodes']} tasks" in flat


def test_the_page_of_few_photos_is_the_generated_one(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from photo_jobs.page import page

    results = json.loads((RESULTS / "few_photos" / "results.json").read_text())
    assert (RESULTS / "few_photos" / "README.md").read_text() == page(results)


def commands():
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line.split("#")[0].strip().removeprefix(".venv/bin/") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("fewshot-kit")]


@pytest.mark.parametrize("line", commands())
def test_the_commands_parse(line):
    assert build_parser().parse_args(shlex.split(line)[1:])


def test_every_linked_file_is_there():
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert linked and all((ROOT / path).exists() for path in linked)
