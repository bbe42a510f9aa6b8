from __future__ import annotations

import json
import os
import signal
import threading

import pytest
import torch
from torch import nn
from toy import Centroids, Waves, noisy_net, points, world

from fewshot_kit import engines, evaluation
from fewshot_kit.algorithms import MAML
from fewshot_kit.checkpoints import load, state_path
from fewshot_kit.datasets import Data
from fewshot_kit.errors import InputError
from fewshot_kit.hooks import Hooks
from fewshot_kit.run_config import read_config
from fewshot_kit.training import meta_train

SMALL = {
    "ways": 3,
    "shots": 2,
    "queries": 4,
    "meta_batch": 3,
    "validate_every": 4,
    "validation_episodes": 5,
    "validation_queries": 4,
    "meta_lr": 0.01,
    "progress": False,
}


def train(algorithm, data=None, **settings):
    return meta_train(algorithm, data or world(), **{**SMALL, **settings})


def centroids():
    return Centroids(noisy_net())


def maml():
    return MAML(noisy_net(), lr=0.1)


class Killed(Exception):
    pass


class KillAt(Hooks):
    def __init__(self, iteration, with_signal=None):
        self.iteration, self.signal = iteration, with_signal

    def on_iteration(self, training):
        if training.iteration == self.iteration:
            if self.signal is None:
                raise Killed
            os.kill(os.getpid(), self.signal)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lines(run):
    return (run / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module", params=[centroids, maml])
def uninterrupted(request, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    algorithm = request.param()
    result = train(algorithm, run=run, iterations=10)
    return request.param, algorithm, result, run


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


def test_the_run_folder(uninterrupted):
    _, algorithm, result, run = uninterrupted
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "curve.png",
        "metrics.jsonl",
        "results.json",
    ]
    config = read_config(run)
    assert config["version"] == 1
    assert config["training"] == {k: v for k, v in SMALL.items() if k != "progress"} | {
        "iterations": 10,
        "schedule": "constant",
        "seed": 0,
        "engine": engines.choose(algorithm, "auto"),
    }
    assert config["data"]["classes"]["test"] == [f"test{i}" for i in range(8)]
    assert config["data"]["example_shape"] == [6]
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "results.json").read_text())["training"]["validation"] == result.best
    history = [json.loads(line) for line in lines(run).splitlines()]
    assert [line["iteration"] for line in history] == list(range(1, 11))
    assert [line["iteration"] for line in history if "validation_accuracy" in line] == [4, 8, 10]
    best = max(history, key=lambda line: line.get("validation_accuracy", 0))
    assert (result.best["iteration"], result.best["accuracy"]) == (best["iteration"], best["validation_accuracy"])


def test_the_algorithm_ends_with_its_best_weights(uninterrupted):
    make, algorithm, result, run = uninterrupted
    found = evaluation.evaluate(algorithm, world().validation, ways=3, shots=2, queries=4, episodes=5)
    assert result.weights == "best" and found.accuracy == result.best["accuracy"]
    assert same(load(run, algorithm=make()), algorithm)


def test_training_learns_without_a_run_folder_or_a_validation_split():
    algorithm = MAML(nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 3)), lr=0.3)
    before = evaluation.evaluate(algorithm, world().test, ways=3, shots=2, queries=4, episodes=50).accuracy
    result = train(algorithm, world(validation=False), iterations=60)
    after = evaluation.evaluate(algorithm, world().test, ways=3, shots=2, queries=4, episodes=50).accuracy
    assert after > before
    assert (result.weights, result.best, result.run) == ("last", None, None)
    assert all(parameter.grad is None for parameter in algorithm.parameters())


class Rates(Hooks):
    def __init__(self):
        self.seen = []

    def on_iteration(self, training):
        self.seen.append(training.optimizer.param_groups[0]["lr"])


def test_the_cosine_schedule_by_hand():
    rates = Rates()
    train(centroids(), iterations=4, schedule="cosine", hooks=[rates])
    assert rates.seen == pytest.approx([0.01, 0.01 * (2 + 2**0.5) / 4, 0.005, 0.01 * (2 - 2**0.5) / 4])


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


def test_the_global_rng_and_the_modes_stay():
    torch.rand(1)
    algorithm = centroids()
    algorithm.model[1].eval()
    before = torch.get_rng_state()
    train(algorithm, iterations=5)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in algorithm.model] == [True, False, True, True, True]


def test_seeds_decide():
    runs = []
    for seed, noise in ((1, 0), (1, 7), (2, 0)):
        torch.rand(noise)  # the caller's own draws do not matter
        algorithm = centroids()
        runs.append((train(algorithm, iterations=3, seed=seed), algorithm))
    assert same(runs[0][1], runs[1][1]) and not same(runs[0][1], runs[2][1])


def test_frozen_parameters_stay():
    algorithm = maml()
    frozen = algorithm.model[0].weight.requires_grad_(False)
    before = frozen.clone()
    train(algorithm, iterations=3)
    assert torch.equal(frozen, before)


def test_float64_and_regression():
    algorithm = MAML(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double(), lr=0.01)
    result = train(algorithm, Data("waves", Waves(), Waves(), Waves(), {}), iterations=4)
    assert result.best["mse"] > 0 and "accuracy" not in result.history[0]
    assert algorithm.model[0].weight.dtype == torch.float64


def test_hooks_are_called_in_order_and_let_go_on_errors():
    class Watch(Hooks):
        def __init__(self):
            self.seen = []

        def on_start(self, training):
            self.seen.append("start")

        def on_validation(self, training, evaluation):
            self.seen.append(f"validation {training.iteration}")

        def on_iteration(self, training):
            self.seen.append(training.iteration)

        def on_end(self, training):
            self.seen.append("end")

        def on_exit(self, training):
            self.seen.append("exit")

    watch = Watch()
    train(centroids(), iterations=2, hooks=[watch])
    assert watch.seen == ["start", 1, "validation 2", 2, "end", "exit"]
    watch = Watch()
    with pytest.raises(Killed):
        train(centroids(), iterations=2, hooks=[watch, KillAt(1)])
    assert watch.seen == ["start", 1, "exit"]


def test_the_bar_shows_loss_accuracy_and_speed(capsys):
    train(centroids(), iterations=2, progress=True)
    shown = capsys.readouterr().err
    assert "loss" in shown and "accuracy" in shown and "tasks/s" in shown


def test_training_in_another_thread_leaves_signals_alone(tmp_path):
    failed = []

    def work():
        try:
            train(centroids(), iterations=1, run=tmp_path / "run")
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(centroids(), iterations=1, run=tmp_path / "run")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


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


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    class Spoil(Hooks):
        def on_iteration(self, training):
            if training.iteration == 5:
                training.algorithm.model[0].weight.data.fill_(float("nan"))

    with pytest.raises(InputError, match=r"The loss is not finite at iteration 6; try a smaller meta_lr than 0.01"):
        train(centroids(), iterations=8, run=tmp_path, hooks=[Spoil()])
    kept = load(tmp_path, algorithm=centroids(), which="last")
    assert all(tensor.isfinite().all() for tensor in kept.state_dict().values())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ways": 9}, "9 ways are more than the 8 classes"),
        ({"shots": 9}, "too few for 9 shots"),
        ({"iterations": 0}, "iterations is 0; it must be a whole number of at least 1"),
        ({"meta_batch": 2.5}, "meta_batch is 2.5"),
        ({"meta_lr": float("nan")}, "meta_lr is nan"),
        ({"schedule": "cosign"}, "Unknown schedule 'cosign'; it is one of constant, cosine"),
        ({"engine": "warp"}, "warp"),
        ({"device": "cuda:77"}, "The device 'cuda:77' is not there"),
        ({"device": "gpu"}, "'gpu' is no device"),
    ],
)
def test_bad_settings(settings, said):
    with pytest.raises(InputError, match=said):
        train(centroids(), **settings)


def test_bad_models():
    with pytest.raises(InputError, match="3 ways were asked for, and Sequential has 2 outputs"):
        train(MAML(noisy_net(ways=2)))
    with pytest.raises(InputError, match=r"does not take examples of shape \[6\]"):
        train(MAML(nn.Sequential(nn.Linear(7, 3))))
    with pytest.raises(InputError, match="nothing to train"):
        train(MAML(noisy_net().requires_grad_(False)))
