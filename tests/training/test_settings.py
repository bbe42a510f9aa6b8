"""The settings of a run: one set of defaults, one set of checks, and what a run records of them."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
from small_runs import centroids, maml, train

from fewshot_kit import meta_train
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import TESTED, TrainConfig, from_run
from fewshot_kit.runs.config import plain, read_config
from fewshot_kit.runs.yaml_text import read_yaml
from fewshot_kit.training.settings import NAMES, TrainingSettings

# What runs wrote before the settings were one object, by default and with everything said.
BY_DEFAULT = """
{ways: 5, shots: 1, queries: 5, iterations: 10800, meta_batch: 6, meta_lr: 0.003, schedule: cosine, seed: 0,
 validate_every: 1200, validation_episodes: 200, validation_queries: 15, engine: auto, chunk: null, workers: null,
 compile: false, unfold: false}
"""
IN_FULL = """
{ways: 20, shots: 5, queries: 2, iterations: 7, meta_batch: 3, meta_lr: 1.0, schedule: constant, seed: 4,
 validate_every: 2, validation_episodes: 9, validation_queries: 6, engine: vmap, chunk: 2, workers: 2, compile: false,
 unfold: true, augmentation: photos, init: runs/first, validation_ways: 5, test_options: {steps: 9}, on_nan: skip}
"""
FULL = TrainingSettings(
    ways=20, shots=5, queries=2, iterations=7, meta_batch=3, meta_lr=1, schedule="constant", seed=4, validate_every=2,
    validation_episodes=9, validation_queries=6, engine="vmap", chunk=2, workers=2, unfold=True, augmentation="photos",
    init=Path("runs/first"), validation_ways=5, test_options={"steps": 9}, on_nan="skip",
)  # fmt: skip


@pytest.mark.parametrize(("settings", "text"), [(TrainingSettings(), BY_DEFAULT), (FULL, IN_FULL)])
def test_a_run_records_what_it_always_did_and_is_read_again(settings, text):
    written = plain(settings.recorded())
    assert list(written.items()) == list(read_yaml(text).items())
    again = TrainingSettings.from_config({"training": written})
    assert again.recorded() == settings.recorded()


def test_as_many_ways_as_in_training_are_not_worth_a_word():
    assert TrainingSettings(validation_ways=5) != TrainingSettings()
    assert TrainingSettings(validation_ways=5).recorded() == TrainingSettings().recorded()


def test_a_folder_without_a_training_run_has_the_usual_settings():
    assert TrainingSettings.from_config({"version": 1}) == TrainingSettings()
    assert TrainingSettings.from_config({"training": {"ways": 3}}).ways == 3


def test_python_and_the_command_line_have_the_same_defaults():
    said = {name: value.default for name, value in inspect.signature(meta_train).parameters.items()}
    assert {name: said[name] for name in NAMES} == vars(TrainingSettings()) | {"test_options": None}
    assert TrainConfig().training() == TrainingSettings()


def test_every_setting_reaches_the_trainer_from_the_command_line():
    """Other values than the usual ones: none of them is dropped on the way, nor comes under another's name."""
    asked = {TESTED.get(name, name): value for name, value in vars(FULL).items()}
    assert TrainConfig(**asked).training() == FULL


def test_every_argument_of_meta_train_reaches_the_run(tmp_path):
    """Each with a value of its own."""
    asked = {
        "ways": 3, "shots": 2, "queries": 4, "iterations": 3, "meta_batch": 5, "meta_lr": 0.02, "seed": 6,
        "schedule": "warmup_cosine", "validate_every": 7, "validation_episodes": 8, "validation_queries": 9,
        "validation_ways": 2, "engine": "vmap", "chunk": 1, "workers": 2, "unfold": True, "on_nan": "skip",
    }  # fmt: skip
    train(maml(), run=tmp_path, **asked)
    recorded = read_config(tmp_path)["training"]
    assert recorded == asked | {"compile": False}
    assert from_run(tmp_path, kinds=())["test_queries"] == 9


def test_settings_stay_as_they_are():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainingSettings().ways = 3


def test_a_resumed_run_is_run_as_before_unless_another_engine_is_asked_for():
    before = TrainingSettings(engine="vmap", chunk=2, workers=3)
    assert TrainingSettings().run_as(before) == before
    assert TrainingSettings(engine="vmap", chunk=4).run_as(before) == dataclasses.replace(before, chunk=4)
    loop = TrainingSettings(engine="loop")
    assert loop.run_as(before) == loop


WRONG = [
    ({"ways": 0}, "ways is 0; it must be a whole number of at least 1"),
    ({"iterations": -1}, "iterations is -1; it must be a whole number of at least 0"),
    ({"meta_batch": 2.5}, "meta_batch is 2.5"),
    ({"validate_every": 0}, "validate_every is 0"),
    ({"validation_episodes": True}, "validation_episodes is True"),
    ({"validation_queries": 0}, "validation_queries is 0"),
    ({"validation_ways": 0}, "validation_ways is 0"),
    ({"meta_lr": float("nan")}, "meta_lr is nan"),
    ({"schedule": "cosign"}, "Unknown schedule 'cosign'; it is one of constant, cosine"),
    ({"augmentation": "stroke"}, "Unknown augmentation 'stroke'; it is one of none, strokes, photos"),
    ({"engine": "warp"}, "Unknown engine 'warp'; it is one of auto, factored, vmap, loop, reference"),
    ({"engine": "vmap", "chunk": 7}, "chunk is 7, more than the 6 episodes of a meta-batch"),
    ({"engine": "loop", "compile": True}, "Only the engines 'factored' and 'vmap' can be compiled, not 'loop'"),
    ({"workers": 0}, "workers is 0"),
    ({"on_nan": "ignore"}, "on_nan is 'ignore'; it must be one of stop, skip"),
    ({"seed": 2**64}, "seed is 18446744073709551616; it must fit into 64 bits"),
    ({"shots": 2**63}, "shots is 9223372036854775808; it must be at most 2147483647"),
]


@pytest.mark.parametrize(("settings", "said"), WRONG)
def test_bad_settings(settings, said):
    with pytest.raises(InputError, match=said):
        TrainingSettings(**settings)
    for name, own in TESTED.items():  # the command line says it by its own names
        said = said.replace(name, own)
    with pytest.raises(InputError, match=said):
        TrainConfig(**{TESTED.get(name, name): value for name, value in settings.items()})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ways": 9}, "9 ways are more than the 8 classes"),
        ({"shots": 9}, "too few for 9 shots"),
        ({"engine": "vmap", "chunk": 4}, "chunk is 4, more than the 3 episodes"),
        ({"device": "cuda:77"}, "The device 'cuda:77' is not there"),
        ({"device": "gpu"}, "'gpu' is no device"),
    ],
)
def test_settings_that_do_not_fit_data_or_machine(settings, said):
    with pytest.raises(InputError, match=said):
        train(centroids(), **settings)
