"""Stopped anywhere and resumed, a run is bit for bit what it would have been."""

from __future__ import annotations

import signal

import pytest
from small_runs import KillAt, Killed, centroids, forget_digests, lines, maml, same, train
from toy import Centroids, points, world

from fewshot_kit.datasets import Data
from fewshot_kit.errors import InputError
from fewshot_kit.runs.checkpoints import state_path
from fewshot_kit.runs.config import read_config, write_config
from fewshot_kit.training.hooks import Hooks


@pytest.mark.parametrize(
    ("stop", "with_signal"),
    [(1, None), (4, None), (7, None), (8, None), (3, signal.SIGINT), (8, signal.SIGINT), (9, signal.SIGTERM)],
)
def test_a_stopped_run_resumes_bit_for_bit(uninterrupted, tmp_path, stop, with_signal):
    make, whole, result, whole_run = uninterrupted
    run = tmp_path / "run"
    with pytest.raises(Killed if with_signal is None else KeyboardInterrupt) as stopped:
        train(make(), run=run, iterations=10, hooks=[KillAt(stop, with_signal)])
    if with_signal:
        assert f"after iteration {stop} of 10" in str(stopped.value)
        assert len(lines(run).splitlines()) == stop

    resumed = make()
    again = train(resumed, run=run, iterations=10, resume=True)
    assert same(resumed, whole)
    assert lines(run) == lines(whole_run)
    assert (again.best, again.history, again.iterations) == (result.best, result.history, 10)
    for which in ("last", "best"):
        assert state_path(run, which).read_bytes() == state_path(whole_run, which).read_bytes()


@pytest.mark.parametrize(
    "settings", [{"engine": "auto"}, {"engine": "vmap", "chunk": 2}, {"engine": "vmap", "unfold": True}]
)
def test_a_resumed_run_keeps_its_engine(tmp_path, settings):
    """Dropout is drawn otherwise by another engine, so the bits would tell."""
    whole = maml()
    train(whole, run=tmp_path / "whole", iterations=6, **settings)
    with pytest.raises(Killed):
        recorded = read_config(tmp_path / "whole")["training"]
        pinned = {name: recorded[name] for name in ("engine", "chunk", "workers", "unfold")}
        train(maml(), run=tmp_path / "run", iterations=6, hooks=[KillAt(5)], **pinned)
    resumed = maml()
    train(resumed, run=tmp_path / "run", iterations=6, resume=True, engine="auto")
    assert same(resumed, whole)
    assert read_config(tmp_path / "run")["training"] == read_config(tmp_path / "whole")["training"]


def test_dropout_and_running_statistics_take_part(uninterrupted):
    _, algorithm, _, _ = uninterrupted
    assert algorithm.model[3].p == 0.3
    if isinstance(algorithm, Centroids):
        assert algorithm.model[1].num_batches_tracked > 0


def test_a_second_kill_and_a_half_written_line_do_no_harm(uninterrupted, tmp_path):
    make, whole, _, whole_run = uninterrupted
    run = tmp_path / "run"
    for attempt, stop in enumerate((5, 7)):
        with pytest.raises(Killed):
            train(make(), run=run, iterations=10, hooks=[KillAt(stop)], resume=attempt > 0)
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"iteration": 8, "lo')
    resumed = make()
    train(resumed, run=run, iterations=10, resume=True)
    assert same(resumed, whole) and lines(run) == lines(whole_run)


def test_more_iterations_go_on_from_the_last_weights(uninterrupted, tmp_path):
    make, whole, _, _ = uninterrupted
    train(make(), run=tmp_path, iterations=8)
    resumed = make()
    train(resumed, run=tmp_path, iterations=10, resume=True)
    assert same(resumed, whole)
    assert read_config(tmp_path)["training"]["iterations"] == 10


def test_a_finished_run_resumes_to_itself(uninterrupted):
    make, whole, result, run = uninterrupted
    again = make()
    assert train(again, run=run, iterations=10, resume=True).history == result.history
    assert same(again, whole)


def test_a_cosine_run_resumes_to_the_same_weights_and_cannot_grow(tmp_path):
    whole, parts = centroids(), centroids()
    train(whole, iterations=6, schedule="cosine", run=tmp_path / "whole")

    class Stop(Hooks):
        def on_iteration(self, training):
            if training.iteration == 5:
                raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        train(parts, iterations=6, schedule="cosine", run=tmp_path / "parts", hooks=[Stop()])
    again = centroids()
    train(again, iterations=6, schedule="cosine", run=tmp_path / "parts", resume=True)
    assert same(whole, again)
    with pytest.raises(InputError, match=r"training.iterations was 6 and is now 9"):
        train(centroids(), iterations=9, schedule="cosine", run=tmp_path / "parts", resume=True)


def test_an_existing_run_is_not_overwritten(tmp_path):
    train(centroids(), iterations=1, run=tmp_path)
    kept = state_path(tmp_path).read_bytes()
    with pytest.raises(InputError, match=r"exists; go on with it by --resume, or name another --run"):
        train(centroids(), iterations=1, run=tmp_path)
    assert state_path(tmp_path).read_bytes() == kept


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"meta_lr": 0.5}, r"training.meta_lr was 0.01 and is now 0.5"),
        ({"seed": 3}, r"training.seed was 0 and is now 3"),
        ({"iterations": 1}, r"was started for 2 iterations; ask for as many or more"),
        ({"data": world(validation=False)}, r"data.classes.validation was \[.*\] and is now None"),
        (
            {"data": Data("points", points(9), None, points(), {})},
            r"data.classes.train was \[train0, train1, ... 8 in all\] and is now \[train0, train1, ... 9 in",
        ),
    ],
)
def test_resuming_with_other_settings_names_the_first_difference(tmp_path, change, said):
    train(centroids(), iterations=2, run=tmp_path)
    with pytest.raises(InputError, match=said):
        train(centroids(), **{"iterations": 2, "run": tmp_path, "resume": True, **change})


def test_a_run_goes_on_after_its_classes_have_moved(tmp_path):
    """Where a class lives is recorded, and does not matter: neither of a registered one nor of one made by hand."""
    named = maml()
    named.recipe = {"name": "maml", "options": {}, "complete": True}
    for number, algorithm in enumerate((maml(), named)):
        run = tmp_path / str(number)
        train(algorithm, run=run, iterations=2)
        config = read_config(run)
        for part in ("algorithm", "model", "data"):
            config[part]["class"] = "earlier.place." + config[part]["class"].rpartition(".")[2]
        write_config(run, config)
        forget_digests(run)
        assert train(algorithm, run=run, iterations=2, resume=True).iterations == 2
        config["model"]["class"] = "earlier.place.Other"
        write_config(run, config)
        forget_digests(run)
        with pytest.raises(InputError, match="model.class was Other and is now Sequential"):
            train(algorithm, run=run, iterations=2, resume=True)


def test_resuming_what_is_not_there(tmp_path):
    with pytest.raises(InputError, match="There is no run folder"):
        train(centroids(), run=tmp_path / "typo", resume=True)
    with pytest.raises(InputError, match=r"has no config.yaml"):
        train(centroids(), run=tmp_path, resume=True)
    with pytest.raises(InputError, match="name it with run="):
        train(centroids(), resume=True)


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    train(centroids(), iterations=2, run=tmp_path / "whole")
    train(centroids(), iterations=2, run=tmp_path / "run")
    state_path(tmp_path / "run").unlink()
    algorithm = centroids()
    train(algorithm, iterations=2, run=tmp_path / "run", resume=True)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_lost_metrics_are_noticed(tmp_path):
    train(centroids(), iterations=3, run=tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(lines(tmp_path).split(b"\n", 1)[1])
    with pytest.raises(InputError, match="does not hold iterations 1 to 3"):
        train(centroids(), iterations=3, run=tmp_path, resume=True)
