"""The settings of a training run from the command line: one dataclass gives the flags, the YAML file and the help."""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import InputError, first_line
from .registry import closest
from .run_config import read_config


def _setting(default: Any, text: str) -> Any:
    factory = (lambda: dict(default)) if isinstance(default, dict) else None
    metadata = {"help": text}
    return field(default_factory=factory, metadata=metadata) if factory else field(default=default, metadata=metadata)


@dataclass
class TrainConfig:
    """Everything that `fewshot-kit train` needs to know."""

    dataset: str = _setting("omniglot", "data set by name (`fewshot-kit list datasets`)")
    algorithm: str = _setting("maml", "algorithm by name (`fewshot-kit list algorithms`)")
    model: str = _setting("conv4", "network by name (`fewshot-kit list models`)")
    ways: int = _setting(5, "classes in a task")
    shots: int = _setting(1, "labelled examples of each class")
    queries: int = _setting(5, "query examples of each class while training")
    iterations: int = _setting(2000, "meta-updates")
    meta_batch: int = _setting(16, "tasks in a meta-update")
    meta_lr: float = _setting(0.003, "outer loop: rate of Adam, at the start")
    schedule: str = _setting("cosine", "how that rate goes on: constant, or cosine down to 0")
    validate_every: int = _setting(200, "iterations between validations, at which the best checkpoint is kept")
    test_episodes: int = _setting(600, "test tasks at the end")
    test_queries: int = _setting(15, "query examples of each class in validation and test")
    seed: int = _setting(0, "decides the tasks, their order and the initial weights")
    engine: str = _setting("auto", "how a meta-batch is run: auto, loop, reference")
    device: str = _setting("cpu", "cpu, cuda or cuda:1")
    run: str = _setting("", "run folder (default: runs/DATASET-ALGORITHM-MODEL-WAYSwSHOTSs)")
    dataset_options: dict[str, Any] = _setting({}, "options of the data set, as image_size=28 rotations=none")
    algorithm_options: dict[str, Any] = _setting({}, "options of the algorithm, as lr=0.4 steps=5")
    model_options: dict[str, Any] = _setting({}, "options of the network, as hidden=32")

    def folder(self) -> Path:
        """The run folder."""
        name = f"{self.dataset}-{self.algorithm}-{self.model}-{self.ways}w{self.shots}s"
        return Path(self.run or f"runs/{name}")


def options(pairs: list[str]) -> dict[str, Any]:
    """`["lr=0.4", "head=fc"]` -> `{"lr": 0.4, "head": "fc"}`; values are read as YAML."""
    import yaml

    read = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise InputError(f"'{pair}' is no option; write it as name=value, such as lr=0.4.")
        try:
            read[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise InputError(f"The value of '{pair}' cannot be read ({first_line(error)}).") from error
    return read


def add_flags(parser: argparse.ArgumentParser, names: list[str] | None = None) -> None:
    """A flag for each setting, or for those named. A flag that is not given leaves nothing in the namespace."""
    for setting in dataclasses.fields(TrainConfig):
        if names is not None and setting.name not in names:
            continue
        flag = "--" + setting.name.replace("_", "-")
        text = setting.metadata["help"]
        if setting.name.endswith("_options"):
            parser.add_argument(flag, nargs="+", metavar="NAME=VALUE", default=argparse.SUPPRESS, help=text)
        else:
            kind = {"int": int, "float": float}.get(str(setting.type), str)
            shown = f"{text} (default: {setting.default})" if setting.default not in ("", None) else text
            metavar = {int: "N", float: "RATE"}.get(kind, "NAME")
            parser.add_argument(flag, type=kind, metavar=metavar, default=argparse.SUPPRESS, help=shown)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags were given for."""
    names = {setting.name for setting in dataclasses.fields(TrainConfig)}
    found = {name: value for name, value in vars(arguments).items() if name in names}
    return {name: options(value) if name.endswith("_options") else value for name, value in found.items()}


def from_file(path: str) -> dict[str, Any]:
    """Settings from a YAML file: `ways: 5` and so on, or the `config.yaml` of a run.

    Raises:
        InputError: no such file, no mapping, or a setting that does not exist.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a YAML file.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no valid YAML: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings; write lines such as 'ways: 5'.")
    if "version" in content and isinstance(content.get("training"), dict):
        return _flat(content)
    names = [setting.name for setting in dataclasses.fields(TrainConfig)]
    for name in content:
        if name not in names:
            raise InputError(f"{path} has a setting '{name}' that does not exist.{closest(str(name), names)}")
    return content


def from_run(run: str | Path) -> dict[str, Any]:
    """The settings that a run folder was made with."""
    return _flat(read_config(run)) | {"run": str(run)}


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """A run's `config.yaml` -> the settings that make it again."""
    settings: dict[str, Any] = {}
    for kind, key in (("dataset", "data"), ("algorithm", "algorithm"), ("model", "model")):
        recipe = config.get(key) or {}
        if "name" not in recipe:
            raise InputError(f"The run was made in Python with a {kind} that has no name; go on with it in Python.")
        settings[kind], settings[f"{kind}_options"] = recipe["name"], dict(recipe["options"])
    names = {setting.name for setting in dataclasses.fields(TrainConfig)}
    training = config["training"] | {"test_queries": config["training"]["validation_queries"]}
    return settings | {name: value for name, value in training.items() if name in names}
