"""Iterations whose loss or gradient is not finite: said with episode, seed and parameter, or left out."""

from __future__ import annotations

import contextlib
import json
import math

import pytest
import torch
from command_line import TINY
from small_runs import KillAt, Killed, lines, same, train
from toy import Odd, noisy_net, points, world

from fewshot_kit import engines
from fewshot_kit.algorithms import MAML
from fewshot_kit.algorithms.bases.task_classes import of_ways
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import TrainConfig
from fewshot_kit.runs.config import read_config
from fewshot_kit.seeds import default_draws
from fewshot_kit.training.finite import Figures, measured, read
from fewshot_kit.training.hooks import Hooks
from fewshot_kit.training.meta_update import draw_meta_batch
from fewshot_kit.training.settings import TrainingSettings

SKIP = {"iterations": 10, "on_nan": "skip"}


def odd():
    return Odd(noisy_net())


def left_out(result):
    return [line["iteration"] for line in result.history if "skipped" in line]


def test_an_update_that_is_left_out_changes_nothing():
    """Against a loop by hand, which steps only where the loss is finite, bit for bit."""
    algorithm = odd()
    result = train(algorithm, data=world(validation=False), **SKIP)
    settings = TrainingSettings(
        ways=3, shots=2, queries=4, meta_batch=3, meta_lr=0.01, schedule="constant", engine="loop", iterations=10
    )
    by_hand, skipped = odd().train(), []
    adam = torch.optim.Adam(by_hand.parameters(), lr=0.01, fused=True)
    for index in range(1, 11):
        before = {name: tensor.clone() for name, tensor in by_hand.state_dict().items()}
        adam.zero_grad()
        episodes = draw_meta_batch(by_hand, points(), settings, index, slice(0, 3))
        with default_draws(0, "training draws", index), of_ways(3):
            losses, _ = engines.meta_backward(by_hand, episodes, engines.choose(by_hand, episodes, "loop"))
        if losses.isfinite().all():
            adam.step()
        else:
            skipped.append(index)
            by_hand.load_state_dict(before)
    assert left_out(result) == skipped and 0 < len(skipped) < 10
    assert result.skipped == len(skipped) == result.history[skipped[-1] - 1]["skipped"]
    assert same(algorithm, by_hand)


def test_a_run_without_such_an_iteration_is_the_same_bit_for_bit():
    one, other = (MAML(noisy_net(), lr=0.1) for _ in range(2))
    results = [train(one, iterations=5), train(other, iterations=5, on_nan="skip")]
    assert same(one, other) and results[0].history == results[1].history and results[1].skipped == 0


def test_a_resumed_run_counts_on_and_gives_the_same(tmp_path):
    algorithm, again = odd(), odd()
    train(algorithm, run=tmp_path / "whole", **SKIP)
    with contextlib.suppress(Killed):
        train(odd(), run=tmp_path / "cut", hooks=[KillAt(6)], **SKIP)
    result = train(again, run=tmp_path / "cut", resume=True, **SKIP)
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut") and same(algorithm, again)
    assert result.skipped == len(left_out(result)) > 0
    assert left_out(result)[0] < 4 < left_out(result)[-1]  # before the checkpoint and after it
    assert (tmp_path / "cut" / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_metrics_are_json_and_hold_the_count(tmp_path):
    result = train(odd(), run=tmp_path, **SKIP)

    def refuse(word):
        raise AssertionError(word)

    read_back = [json.loads(line, parse_constant=refuse) for line in lines(tmp_path).splitlines()]
    there = [line for line in read_back if "skipped" in line]
    assert [line["skipped"] for line in there] == list(range(1, result.skipped + 1))
    assert all(line["loss"] is None and 0 <= line["accuracy"] <= 1 for line in there)


def test_a_run_that_stopped_goes_on_with_skip_and_records_it(tmp_path):
    with pytest.raises(InputError, match="not finite at iteration"):
        train(odd(), run=tmp_path, iterations=10)
    assert "on_nan" not in read_config(tmp_path)["training"]
    algorithm, whole = odd(), odd()
    train(algorithm, run=tmp_path, resume=True, **SKIP)
    train(whole, **SKIP)
    assert read_config(tmp_path)["training"]["on_nan"] == "skip" and same(algorithm, whole)


def test_stopping_names_iteration_seed_episode_and_parameter(tmp_path):
    history = train(odd(), **SKIP).history
    first = next(line["iteration"] for line in history if "skipped" in line)
    with pytest.raises(InputError) as stopped:
        train(odd(), iterations=10, run=tmp_path)
    said = str(stopped.value)
    assert f" is not finite at iteration {first} of seed 0, nor is the gradient of 'model." in said
    assert "try a smaller meta_lr than 0.01, or leave such updates out by on_nan='skip'" in said
    episode = int(said.split("The loss of episode ")[1].split(" of 3")[0])
    settings = TrainingSettings(ways=3, shots=2, queries=4, meta_batch=3)
    drawn = draw_meta_batch(odd(), points(), settings, first, slice(0, 3)).query_x[:, 0, 0] > 1.5
    assert episode == 1 + drawn.int().argmax()


def said(losses, slopes):
    mean = sum(losses) / len(losses)
    return Figures(7, {"loss": mean}, losses, slopes).trouble(3)


def test_the_sentence_by_hand():
    nan, inf = math.nan, math.inf
    assert said([1.0, nan, inf], {"a": 1.0, "b": nan, "c": inf}) == (
        "The loss of episode 2 of 3 (and of 1 more) is not finite at iteration 7 of seed 3, nor is the gradient of "
        "'b', the first of 2 such parameters"
    )
    assert said([1.0, 2.0], {"a": 1.0, "b": inf}) == (
        "The meta-gradient of 2 finite losses is not finite at iteration 7 of seed 3, nor is the gradient of 'b'"
    )
    assert said([1.0, inf], {"a": 1.0, "b": 250.0}).endswith("seed 3; the largest gradient is that of 'b', 2.5e+02")


def test_figures_come_back_as_they_were_measured():
    """Of two iterations with another number of gradients, in one transfer."""
    algorithm = MAML(noisy_net())
    weight, bias = algorithm.model[0].weight, algorithm.model[0].bias
    weight.grad = torch.full_like(weight, -3.0)
    unread = [measured(1, algorithm, torch.tensor([1.0, 3.0]), {"accuracy": torch.tensor(0.5)})]
    weight.grad[0, 0], bias.grad = -math.inf, torch.zeros_like(bias)
    unread.append(measured(2, algorithm, torch.tensor([1.0, math.nan]), {}))
    one, other = read(unread)
    assert one == Figures(1, {"loss": 2.0, "accuracy": 0.5}, [1.0, 3.0], {"model.0.weight": 3.0}) and one.finite
    assert other.slopes == {"model.0.weight": math.inf, "model.0.bias": 0.0} and not other.finite
    assert [bool(each.finite) for each in unread] == [True, False]


def test_a_gradient_alone_that_is_not_finite():
    class Steep(MAML):
        def loss(self, episode):
            value, scores = super().loss(episode)
            at_zero = self.model[4].bias[0] * 0
            return value + at_zero.sqrt(), scores  # 0, with a slope of infinity times 0

    said = "meta-gradient of 3 finite losses .* nor is the gradient of 'model.4.bias'; .* or inner lr than 0.1"
    with pytest.raises(InputError, match=said):
        train(Steep(noisy_net(), lr=0.1), iterations=2)


def test_only_two_words_are_known():
    with pytest.raises(InputError, match="on_nan is 'ignore'; it must be one of stop, skip"):
        TrainingSettings(on_nan="ignore")


def test_it_changes_no_hash_where_it_is_as_usual():
    assert "on_nan" not in TrainConfig().told() and TrainConfig(on_nan="skip").told()["on_nan"] == "skip"
    assert set(vars(TrainConfig())) - set(TrainConfig().told()) == {"exact", "on_nan"}


def test_the_command_line_counts_them_at_the_end(cli, tmp_path, monkeypatch):
    """glyphs by maml, whose third iteration is spoilt."""

    class Spoil(Hooks):
        def on_iteration(self, training):
            spoilt = training.iteration == 2
            training.algorithm.criterion = (
                (lambda s, y: s.sum() * math.nan) if spoilt else torch.nn.functional.cross_entropy
            )

    monkeypatch.setattr("fewshot_kit.cli.commands.TestPlan", lambda *_: Spoil())
    asked = f'train {TINY} --iterations 4 --init "" --on-nan skip'
    shown = cli.good(f"{asked} --run one")
    assert "Skipped: 1 of 4 meta-updates, whose loss or gradient was not finite." in shown
    assert json.loads(cli.good(f"{asked} --run other --json"))["skipped"] == 1
    assert json.loads((tmp_path / "other" / "results.json").read_text())["skipped"] == 1
