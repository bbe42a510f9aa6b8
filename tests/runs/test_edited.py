"""Files of a run that somebody edited or damaged are named, and used only where that is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import TINY
from small_runs import KillAt, Killed, centroids, forget_digests, lines, same, train
from toy import Centroids, noisy_net

from fewshot_kit.errors import InputError
from fewshot_kit.runs import checkpoints, storage
from fewshot_kit.runs.checkpoints import load, read_run, save, state_path
from fewshot_kit.runs.config import read_config, write_config


@pytest.fixture
def run(tmp_path):
    train(centroids(), run=tmp_path / "run", iterations=6)
    return tmp_path / "run"


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


CONFIG = r"run/config.yaml was edited or damaged: it is not what .*last.safetensors was written with; restore it from a"


@pytest.mark.parametrize(
    ("old", "new"), [("train3", "train8"), ("queries: 4", "queries: 5"), ("training:", "trainjng:"), ("ways", "wayz")]
)
def test_an_edited_config_is_named_by_every_reader(run, old, new):
    edit(run / "config.yaml", old, new)
    before = lines(run), (run / "config.yaml").read_bytes()
    for use in (
        lambda: load(run, algorithm=centroids()),
        lambda: load(run, algorithm=centroids(), which="last"),
        lambda: train(centroids(), run=run, iterations=6, resume=True),
        lambda: read_run(run),
    ):
        with pytest.raises(InputError, match=CONFIG):
            use()
    assert (lines(run), (run / "config.yaml").read_bytes()) == before
    assert read_run(run, accept_edited=True) == read_config(run)


def test_what_says_the_same_is_no_edit(run):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(f"# my best one\n{text}\n")
    load(run, algorithm=centroids())
    write_config(run, read_config(run) | {"test": {"test_episodes": 7}})  # what every call may change
    train(centroids(), run=run, iterations=6, resume=True)


def test_an_accepted_edit_is_the_runs_from_then_on(run):
    edit(run / "config.yaml", "meta_lr: 0.01", "meta_lr: 0.02")
    assert isinstance(load(run, algorithm=centroids(), accept_edited=True), Centroids)
    with pytest.raises(InputError, match="training.meta_lr was 0.02 and is now 0.01"):
        train(centroids(), run=run, iterations=6, resume=True, accept_edited=True)
    again = {"run": run, "iterations": 6, "resume": True, "meta_lr": 0.02}
    train(centroids(), **again, accept_edited=True)
    train(centroids(), **again)
    load(run, algorithm=centroids())


def test_a_digit_of_the_metrics_is_named(run):
    found = lines(run).decode()
    digit = found.index(".") + 3
    (run / "metrics.jsonl").write_text(found[:digit] + str((int(found[digit]) + 1) % 10) + found[digit + 1 :])
    said = r"run/metrics.jsonl was edited or damaged: its first 6 lines are not those that the checkpoint was written"
    with pytest.raises(InputError, match=said):
        train(centroids(), run=run, iterations=6, resume=True)
    again = {"run": run, "iterations": 6, "resume": True}
    assert train(centroids(), **again, accept_edited=True).iterations == 6
    assert train(centroids(), **again).iterations == 6
    (run / "metrics.jsonl").unlink()
    with pytest.raises(InputError, match=r"run/metrics.jsonl cannot be read: No such file or directory; restore it"):
        train(centroids(), **again)


def test_lines_after_the_checkpoint_are_not_its_business(tmp_path):
    """They are made again, as they are after a kill."""
    train(centroids(), run=tmp_path / "whole", iterations=8)
    with pytest.raises(Killed):
        train(centroids(), run=tmp_path / "run", iterations=8, hooks=[KillAt(6)])
    edit(tmp_path / "run" / "metrics.jsonl", '{"iteration": 6', '{"iteration": 7')
    train(centroids(), run=tmp_path / "run", iterations=8, resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_a_damaged_checkpoint_is_not_blamed_on_the_config(run):
    content = state_path(run).read_bytes()
    known = read_digest(run)
    state_path(run).write_bytes(content.replace(known.encode(), known[::-1].encode()))
    with pytest.raises(InputError, match=r"last.safetensors is damaged: its checksum does not match"):
        load(run, algorithm=centroids())


def read_digest(run):
    return checkpoints.digests(checkpoints.read_state(state_path(run))[1])["config"][0]


def test_runs_of_earlier_versions_load_and_go_on(run, tmp_path):
    forget_digests(run)
    config = read_config(run)
    config["data"].pop("statistics", None)
    config["algorithm"]["class"] = "earlier.Centroids"
    write_config(run, config)
    load(run, algorithm=centroids())
    algorithm, whole = centroids(), centroids()
    train(algorithm, run=run, iterations=8, resume=True)
    train(whole, run=tmp_path / "whole", iterations=8)
    assert same(algorithm, whole)
    edit(run / "config.yaml", "train3", "train8")  # and have digests from then on
    with pytest.raises(InputError, match=CONFIG):
        load(run, algorithm=centroids())


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("count", range(7))
def test_a_kill_between_any_two_writes_bricks_no_run(tmp_path, monkeypatch, growing, count):
    """Of a new run, or of one that is resumed for more iterations: before and after every file."""
    whole, run = centroids(), tmp_path / "run"
    train(whole, run=tmp_path / "whole", iterations=8)
    if growing:
        train(centroids(), run=run, iterations=4)
    usual, left = storage.replace, [count]

    def killed(*args):
        if not left[0]:
            raise Killed
        left[0] -= 1
        usual(*args)

    monkeypatch.setattr(storage, "replace", killed)
    with pytest.raises(Killed):
        train(centroids(), run=run, iterations=8, resume=growing)
    monkeypatch.undo()
    begun = (run / "config.yaml").exists()
    if begun:
        load(run, algorithm=centroids())
    algorithm = centroids()
    train(algorithm, run=run, iterations=8, resume=begun)
    assert same(algorithm, whole) and lines(run) == lines(tmp_path / "whole")


def test_what_save_wrote_is_covered_too(tmp_path):
    save(Centroids(noisy_net()), tmp_path, ways=3)
    load(tmp_path, algorithm=centroids())
    edit(tmp_path / "config.yaml", "ways: 3", "ways: 4")
    with pytest.raises(InputError, match=r"config.yaml was edited or damaged"):
        load(tmp_path, algorithm=centroids())


def test_the_command_line_takes_an_edited_run_by_its_flag(cli):
    cli.good(f"train {TINY} --iterations 1 --run run")
    edit(Path("run/config.yaml"), "test_episodes: 4", "test_episodes: 3")
    cli.good("evaluate run --episodes 2")
    edit(Path("run/config.yaml"), "seed: 0", "seed: 1")
    for line in ("evaluate run --episodes 2", "adapt run run run", "train --run run --resume"):
        assert cli.refused(line).startswith("run/config.yaml was edited or damaged: it is not what run/checkpoints/las")
        assert "config.yaml" not in cli(f"{line} --accept-edited").err
    cli.good("evaluate run --episodes 2")
