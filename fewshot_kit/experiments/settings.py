"""Where the settings of `fewshot-kit train` come from: recipes, YAML files and runs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import models
from ..errors import InputError, first_line
from ..options import check_settings
from ..runs.checkpoints import read_run, state_path
from ..runs.config import plain, read_config_file
from ..runs.yaml_text import read_yaml
from .recipes import applies, sections
from .train_config import FIELDS, TESTED, TrainConfig

MADE = ("dataset", "algorithm", "model")  # registries make these, each with its `..._options`


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings `below`, overridden by those `above`.

    Options of both are combined. If `above` names another data set, algorithm or network, its options from `below` are
    dropped.
    """
    below, above = _named_in_full(below), _named_in_full(above)
    settings = below | above
    for kind, options in [*((kind, f"{kind}_options") for kind in MADE), ("algorithm", "test_options")]:
        if above.get(kind, below.get(kind)) == below.get(kind, above.get(kind)):
            settings[options] = below.get(options, {}) | above.get(options, {})
        else:
            settings[options] = above.get(options, {})
    return settings


def from_recipe(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns the recipe of the algorithm and data set, overridden by the settings that were asked for."""
    usual = {setting.name: setting.default for setting in dataclasses.fields(TrainConfig)}
    settings: dict[str, Any] = {}
    for title, section in sections(asked.get("dataset", TrainConfig.dataset)):
        if applies(title, usual | settings | asked):
            settings = merged(settings, section)
    return merged(settings, asked)


def _named_in_full(settings: dict[str, Any]) -> dict[str, Any]:
    return settings | ({"model": models.full_name(settings["model"])} if "model" in settings else {})


def from_file(path: str) -> dict[str, Any]:
    """Returns the settings in a YAML file, which has lines such as `ways: 5` or is the `config.yaml` of a run.

    Raises:
        InputError: there is no such file; it holds no mapping; a setting does not exist or has a value of another type.
    """
    import yaml

    try:
        content = read_yaml(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no valid YAML: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; write lines such as 'ways: 5'.")
    if "version" in content:
        return _flat(read_config_file(path), path)
    check_settings(content, {name: setting.type for name, setting in FIELDS.items()}, path)
    return content


def from_run(run: str | Path, kinds: tuple[str, ...] = MADE, accept_edited: bool = False) -> dict[str, Any]:
    """Returns the settings of the run in a folder.

    Args:
        kinds: which of data set, algorithm and model must have a registered name.
        accept_edited: take config.yaml as it is, even if it is not as the run wrote it.

    Raises:
        InputError: no run; or one that was edited, or made in Python of a class without a name.
    """
    return _flat(read_run(run, accept_edited), run, kinds) | {"run": str(run)}


def to_go_on(run: str | Path, asked: dict[str, Any], accept_edited: bool = False) -> dict[str, Any]:
    """The settings of a run that is resumed, with those that are asked for on top.

    Raises:
        InputError: as `from_run`; a run without a checkpoint, whose config.yaml names weights to start from. Somebody
            else may have made the folder, so that files are read only where a person names them.
    """
    known = from_run(run, accept_edited=accept_edited)
    if not state_path(run).exists():
        given, options = asked | asked.get("model_options", {}), known["model_options"]
        sources = {
            "init": known.get("init"),
            "weights": options.get("weights"),
            "pretrained": options.get("pretrained"),
        }
        for name, value in sources.items():
            if value and name not in given:
                flag = "--init " if name == "init" else f"--model-options {name}="
                raise InputError(
                    f"{run} has no checkpoint, and its config.yaml asks to start from {name}={value}; what it names "
                    f"is not opened: give it yourself by {flag}{value}, or train anew."
                )
    return merged(known, asked)


def _flat(config: dict[str, Any], source: str | Path, kinds: tuple[str, ...] = MADE) -> dict[str, Any]:
    """Returns the settings that make a run again, from the content of its `config.yaml`."""
    settings: dict[str, Any] = {}
    for kind in kinds:
        recipe = config.get("data" if kind == "dataset" else kind) or {}
        if "name" not in recipe:
            raise InputError(f"{source} was made in Python with a {kind} that has no name; go on with it in Python.")
        settings[kind], settings[f"{kind}_options"] = recipe["name"], dict(recipe["options"])
    training = config.get("training") or {}
    training = {TESTED.get(name, name): value for name, value in training.items()} | (config.get("test") or {})
    told = {name: value for name, value in training.items() if name in FIELDS and (name, value) != ("init", None)}
    check_settings(told, {name: setting.type for name, setting in FIELDS.items()}, str(source))
    settings |= told
    if "model" in kinds:  # sizes that follow from data set and task are left out, since these may change
        sizes = fitting(settings, (config.get("data") or {}).get("example_shape"))
        options = settings["model_options"].items()
        settings["model_options"] = {name: value for name, value in options if sizes.get(name) != value}
        # Image options that follow from a network with weights are left out too.
        channels = {"channels": sizes["channels"]} if "channels" in sizes else {}
        images = models.images_for(settings["model"], **channels | settings["model_options"])
        own = plain(models.as_options(images)) if images else {}
        options = settings["dataset_options"].items()
        settings["dataset_options"] = {name: value for name, value in options if name not in own or own[name] != value}
    return settings


def fitting(settings: dict[str, Any], example_shape: Sequence[int] | None) -> dict[str, Any]:
    """Returns the network options that follow from task and examples: ways, seed and inputs.

    For images these are channels and image_size too.
    """
    sizes: dict[str, Any] = {name: settings[name] for name in ("ways", "seed") if name in settings}
    if example_shape:
        sizes["inputs"] = math.prod(example_shape)
    if example_shape and len(example_shape) == 3:
        sizes |= {"channels": example_shape[0], "image_size": max(example_shape[1:])}
    return sizes
