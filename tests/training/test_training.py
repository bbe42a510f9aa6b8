from __future__ import annotations

import json
import signal
import sys
import threading

import pytest
import torch
from small_runs import SMALL, KillAt, Killed, centroids, lines, maml, same, train
from torch import nn
from toy import Centroids, Waves, noisy_net, world

from fewshot_kit import algorithms, evaluation
from fewshot_kit.algorithms import MAML
from fewshot_kit.datasets import Data
from fewshot_kit.errors import InputError
from fewshot_kit.runs.checkpoints import load
from fewshot_kit.runs.config import read_config
from fewshot_kit.seeds import stream
from fewshot_kit.training.hooks import Hooks
from fewshot_kit.training.prefetch import ahead
from fewshot_kit.training.profiling import Profiler


def test_the_run_folder(uninterrupted):
    _, _, result, run = uninterrupted
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
        "seed": 0,
        "chunk": None,
        "workers": 1,
        "compile": False,
        "unfold": False,
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


def test_no_bar_where_there_is_no_terminal(capsys):
    train(centroids(), iterations=2, progress=True)
    assert capsys.readouterr().err == "engine: loop on 1 worker (as asked for)\n"


def test_the_bar_shows_loss_accuracy_and_speed(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    train(centroids(), iterations=2, progress=True)
    shown = capsys.readouterr().err
    assert "loss" in shown and "accuracy" in shown and "tasks/s" in shown


def test_auto_is_measured_said_and_written_down(tmp_path, capsys):
    result = train(maml(), engine="auto", run=tmp_path, iterations=2, progress=True)
    recorded = read_config(tmp_path)["training"]
    assert result.engine == recorded["engine"] in ("factored", "loop", "vmap")
    assert "(measured on 3 episodes: loop on 1 worker " in capsys.readouterr().err


def test_engines_learn_the_same():
    """As far as rounding goes: without dropout, whose draws differ."""
    found = []
    chosen = ("loop", "vmap", "factored", "reference")
    for settings in (*({"engine": engine} for engine in chosen), {"engine": "vmap", "chunk": 2}):
        algorithm = MAML(noisy_net().double(), lr=0.1)
        algorithm.model[3].p = 0.0
        train(algorithm, iterations=3, **settings)
        found.append(torch.cat([parameter.detach().flatten() for parameter in algorithm.parameters()]))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-6, atol=1e-8)


def test_figures_of_the_algorithm_are_written_at_validations(tmp_path):
    algorithm = algorithms.create("meta_sgd", model=noisy_net(), lr=0.1)
    result = train(algorithm, iterations=5, run=tmp_path)
    assert [line["iteration"] for line in result.history if "rate" in line] == [4, 5]
    assert json.loads(lines(tmp_path).splitlines()[3])["rate"] == pytest.approx(0.1, abs=0.05)


def test_the_next_meta_batch_is_drawn_ahead_and_in_order():
    """One more than is in use, on another thread; what is in use never waits for more than itself."""
    made, drawn = [], threading.Event()

    def make(index):
        made.append((index, threading.current_thread() is threading.main_thread()))
        if index == 3:
            drawn.set()
        return index

    batches = ahead(make, range(2, 5))
    assert next(batches) == 2
    assert drawn.wait(10)
    assert list(batches) == [3, 4]
    assert made == [(2, False), (3, False), (4, False)]


def test_an_error_in_drawing_comes_out():
    class Broken(Waves):
        def episodes(self, *args, generator, **options):
            if generator.initial_seed() == stream(0, "training", 3).initial_seed():
                raise InputError("the third meta-batch")
            return super().episodes(*args, generator=generator, **options)

    algorithm = MAML(nn.Linear(1, 1), lr=0.1)
    with pytest.raises(InputError, match="the third meta-batch"):
        train(algorithm, Data("waves", Broken(), Waves(), Waves(), {}), iterations=4)


def test_a_profile_is_a_trace_and_the_heaviest_operators(tmp_path):
    train(maml(), iterations=8, hooks=[Profiler(tmp_path / "profile")])
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    assert any("addmm" in event.get("name", "") for event in trace["traceEvents"])
    table = (tmp_path / "profile" / "operators.txt").read_text()
    assert "Self CPU" in table and sum("aten::" in line for line in table.splitlines()) <= 10
    with pytest.raises(InputError, match="Profiling takes 8 iterations, and there are 7 to go"):
        train(maml(), iterations=7, hooks=[Profiler(tmp_path / "more")])


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


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    class Spoil(Hooks):
        def on_iteration(self, training):
            if training.iteration == 5:
                training.algorithm.model[0].weight.data.fill_(float("nan"))

    with pytest.raises(InputError, match=r"loss .* is not finite at iteration 6 .*; try a smaller meta_lr than 0.01"):
        train(centroids(), iterations=8, run=tmp_path, hooks=[Spoil()])
    kept = load(tmp_path, algorithm=centroids(), which="last")
    assert all(tensor.isfinite().all() for tensor in kept.state_dict().values())


def test_bad_models():
    with pytest.raises(InputError, match="3 ways were asked for, and Sequential has 2 outputs"):
        train(MAML(noisy_net(ways=2)))
    with pytest.raises(InputError, match=r"does not take examples of shape \[6\]"):
        train(MAML(nn.Sequential(nn.Linear(7, 3))))
    with pytest.raises(InputError, match="nothing to train"):
        train(MAML(noisy_net().requires_grad_(False)))


def test_an_algorithm_is_told_how_far_training_is():
    class Annealed(Centroids):
        def __init__(self, model):
            super().__init__(model)
            self.told = []

        def anneal(self, progress):
            self.told.append(progress)

    algorithm = Annealed(noisy_net())
    train(algorithm, iterations=4)
    assert algorithm.told == [0.0, 0.25, 0.5, 0.75]
