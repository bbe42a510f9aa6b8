"""The recipes that the package ships: they fit what they are for, and flags win over them."""

import json
from pathlib import Path

import pytest

from fewshot_kit import algorithms, datasets, models
from fewshot_kit.errors import InputError
from fewshot_kit.experiments import recipes
from fewshot_kit.experiments import running as experiment
from fewshot_kit.experiments.settings import TrainConfig, from_recipe
from fewshot_kit.options import check_options, check_settings, options_of
from fewshot_kit.runs.config import read_config

FILES = ["default", *datasets.names()]
SECTIONS = [(file, title) for file in FILES for title in recipes._sections(file)]
TYPES = {name: setting.type for name, setting in TrainConfig.__dataclass_fields__.items()}


@pytest.mark.parametrize("file, title", SECTIONS)
def test_a_section_is_about_what_there_is(file, title):
    settings, (name, *conditions) = recipes._sections(file)[title], title.split(",")
    check_settings(settings, TYPES, file)
    assert name == "all" or name in algorithms.names()
    assert all(each.partition("=")[0].strip() in TYPES for each in conditions)
    asked = {"algorithm": "maml" if name == "all" else name, "dataset": "omniglot" if file == "default" else file}
    config = TrainConfig(**from_recipe(asked))
    check_options(algorithms.get(config.algorithm), config.algorithm_options, title)
    check_options(models.get(config.model), config.model_options, title)
    check_options(datasets.get(config.dataset), config.dataset_options, title)
    takes = options_of(algorithms.get(config.algorithm)).parameters
    assert set(config.test_options) <= set(takes)
    assert not config.init or config.init in algorithms.names()


@pytest.fixture
def written(monkeypatch):
    """Recipes of one's own."""
    files = {
        "default": {"all": {"meta_lr": 0.5}, "maml": {"iterations": 7}},
        "glyphs": {
            "all": {"model": "cnn", "model_options": {"hidden": 4}},
            "maml": {"algorithm_options": {"lr": 0.1, "steps": 2}, "test_options": {"steps": 9}},
            "maml, model=cnn, ways=20": {"algorithm_options": {"lr": 0.3}},
            "maml, model=conv4": {"meta_lr": 0.25},
        },
    }
    monkeypatch.setattr(recipes, "_sections", lambda name: files.get(name, {}))


def test_later_sections_win_and_flags_win_over_all(written):
    config = TrainConfig(**from_recipe({"dataset": "glyphs", "algorithm": "maml"}))
    assert (config.meta_lr, config.iterations, config.model) == (0.5, 7, "cnn")
    assert config.algorithm_options == {"lr": 0.1, "steps": 2} and config.test_options == {"steps": 9}
    wide = TrainConfig(**from_recipe({"dataset": "glyphs", "algorithm": "maml", "ways": 20, "iterations": 3}))
    assert wide.algorithm_options == {"lr": 0.3, "steps": 2} and wide.iterations == 3
    asked = {"dataset": "glyphs", "algorithm": "maml", "algorithm_options": {"lr": 0.9}}
    assert TrainConfig(**from_recipe(asked)).algorithm_options == {"lr": 0.9, "steps": 2}


def test_a_condition_sees_what_was_asked_and_what_the_recipe_takes(written):
    """The file's own network is `cnn`, so that its section for `conv4` is for those who ask for it."""
    other = TrainConfig(**from_recipe({"dataset": "glyphs", "algorithm": "maml", "model": "conv4"}))
    assert other.meta_lr == 0.25 and other.model_options == {}  # those were of another network


@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_both_networks_of_futurama_get_the_head_that_boil_needs(model):
    config = TrainConfig(**from_recipe({"dataset": "futurama", "algorithm": "boil", "model": model}))
    assert config.model == model and config.model_options == {"smooth_head": True}


def test_a_data_set_without_a_file_has_the_default(written):
    config = TrainConfig(**from_recipe({"dataset": "cub", "algorithm": "maml"}))
    assert (config.iterations, config.meta_lr, config.model) == (7, 0.5, "conv4")


@pytest.fixture
def staged(monkeypatch, tmp_path):
    """A recipe that starts from another one's run; settings of seconds."""
    tiny = {"iterations": 2, "meta_batch": 1, "validation_episodes": 2, "test_episodes": 2, "test_queries": 2}
    files = {
        "glyphs": {
            "all": tiny
            | {"dataset_options": {"classes": 12, "drawings": 6, "image_size": 16}, "ways": 2, "queries": 2},
            "baseline": {"algorithm_options": {"batch": 8}, "model_options": {"hidden": 4}},
            "maml": {"init": "baseline", "model_options": {"hidden": 4}, "test_options": {"steps": 3, "lr": 0.05}},
        }
    }
    monkeypatch.setattr(recipes, "_sections", lambda name: files.get(name, {}))
    monkeypatch.chdir(tmp_path)
    return lambda **asked: TrainConfig(**from_recipe({"dataset": "glyphs", "engine": "loop", **asked}))


def test_what_a_run_starts_from_is_trained_first_and_shared(staged):
    config = staged(algorithm="maml", run="runs/one")
    first = experiment.earlier(config)
    assert first.algorithm == "baseline" and first.folder().parent == config.folder().parent
    _, algorithm, _ = experiment.train(config, progress=False)
    assert experiment.finished(first.folder()) and read_config(config.folder())["training"]["init"] == str(
        first.folder()
    )
    assert (algorithm.steps, algorithm.lr) == (3, 0.05)
    before = first.folder().joinpath("metrics.jsonl").stat().st_mtime_ns
    experiment.train(staged(algorithm="maml", run="runs/two", iterations=1), progress=False)
    assert first.folder().joinpath("metrics.jsonl").stat().st_mtime_ns == before
    assert experiment.earlier(staged(algorithm="maml", run="runs/two", seed=5)).folder() != first.folder()


def test_whether_a_run_is_finished_is_read_from_its_checkpoint(staged):
    config = staged(algorithm="baseline", run="runs/one")
    assert not experiment.finished("runs/one")
    experiment.train(config, progress=False)
    Path("runs/one/results.json").write_text('{"train')  # cut by another program
    assert experiment.finished("runs/one")
    checkpoint = Path("runs/one/checkpoints/last.safetensors")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    with pytest.raises(InputError, match="runs/one/checkpoints/last.safetensors is truncated or damaged"):
        experiment.finished("runs/one")


def test_the_classes_to_learn_are_counted(staged):
    data, algorithm = experiment.make(staged(algorithm="baseline"))
    assert algorithm.classes == len(data.train.classes)


def test_the_command_line_takes_the_recipe(staged, cli):
    """Trained, resumed and loaded again with the options that it is tested with."""
    found = json.loads(cli.good("train --dataset glyphs --algorithm maml --run runs/a --json --engine loop"))
    assert found["iterations"] == 2
    tested = found["test"][0]["accuracy"]
    again = json.loads(cli.good("evaluate runs/a --episodes 2 --json"))
    assert again["accuracy"] == tested
    cli.good("train --dataset glyphs --algorithm maml --run runs/a --resume")
    config = read_config("runs/a")
    assert config["training"]["test_options"] == {"steps": 3, "lr": 0.05}
    assert "steps" not in config["algorithm"]["options"]


def test_an_option_for_the_test_is_said_before_any_work(staged):
    with pytest.raises(InputError, match="MAML has no option 'stepz'"):
        experiment.train(staged(algorithm="maml", init="", test_options={"stepz": 1}), progress=False)
