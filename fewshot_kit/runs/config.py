"""Writes and reads the `config.yaml` of a run folder, which holds everything that defines a run."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import torch

from ..algorithms import Algorithm
from ..datasets import Split
from ..datasets.splits.contract import DataSet
from ..datasets.splits.recorded import classes_of
from ..errors import InputError, first_line
from .likeness import measured
from .recorded import check_recipes
from .storage import write_bytes
from .yaml_text import read_yaml

CONFIG_VERSION = 1
ACCEPT = "--accept-edited (in Python accept_edited=True)"  # how a file that was edited is used all the same


def plain(value: Any) -> Any:
    """Returns a value as the plain types of YAML and JSON.

    Raises:
        TypeError: the value has no such form.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and not value.isascii() and value != value.encode("utf-8", "ignore").decode():
        raise InputError(
            f"{value!r} holds bytes that are no UTF-8, so that no run can record it; rename the file or folder."
        )
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise TypeError(f"{type(value).__name__} is no plain value")


def _recipe(made: Any) -> dict[str, Any]:
    """Returns the class of an object, and its name and options if a registry made it with options that fit in text."""
    recipe = getattr(made, "recipe", None)
    described: dict[str, Any] = {"class": f"{type(made).__module__}.{type(made).__qualname__}"}
    if recipe and recipe["complete"]:
        with contextlib.suppress(TypeError):
            described |= {"name": recipe["name"], "options": plain(recipe["options"])}
    return described


def _described(data: DataSet) -> dict[str, Any]:
    """Returns a data set's recipe, the shape and transform of its examples, and the classes of splits that have any."""
    own = data.train if isinstance(data.train, Split) else None
    described = _recipe(data) | {
        "example_shape": plain(data.train.example_shape),
        "transform": plain(own.transform if own else None),
    }
    if own and own.x.dtype == torch.uint8 and own.x.dim() == 4:
        described["statistics"] = plain(measured(own.x))  # `likeness.unlike` compares images alone
    classes = classes_of(data)
    return described | ({"classes": classes} if classes else {})


def describe(
    algorithm: Algorithm, data: DataSet | None = None, training: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Returns the content of `config.yaml`.

    It holds the model, the algorithm, the data set (transform, statistics, class names) and the training.
    """
    config: dict[str, Any] = {
        "version": CONFIG_VERSION,
        "algorithm": _recipe(algorithm),
        "model": _recipe(algorithm.model),
        "frozen": [name for name, parameter in algorithm.named_parameters() if not parameter.requires_grad],
        "batch_norm": algorithm.batch_norm,
    }
    if data is not None:
        config["data"] = _described(data)
    if training:
        config["training"] = plain(training)
    return config


def write_config(run: str | Path, config: dict[str, Any]) -> None:
    """Writes `config.yaml` atomically."""
    write_bytes(Path(run) / "config.yaml", _as_text(config))


def _as_text(config: dict[str, Any]) -> bytes:
    import yaml

    text = yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return text.encode()


def digest(config: dict[str, Any]) -> str:
    """SHA-256 of what a run's `config.yaml` says, but for how it is tested, which every call may change.

    Args:
        config: what `read_config` gives.
    """
    kept = {name: part for name, part in config.items() if name != "test"}
    return hashlib.sha256(ascii(kept).encode()).hexdigest()


def digest_when_read(config: dict[str, Any]) -> str:
    """`digest` of a configuration that is yet to be written."""
    return digest(read_yaml(_as_text(config), by_hand=False))


def read_config(run: str | Path) -> dict[str, Any]:
    """Returns the content of a run folder's `config.yaml`.

    Raises:
        InputError: the folder does not exist or holds no run; the file is damaged or from a newer version of the kit.
    """
    path = Path(run) / "config.yaml"
    if not Path(run).is_dir():
        raise InputError(f"There is no run folder {run}; check the path, or train first.")
    if not path.exists():
        raise InputError(
            f"{run} has no config.yaml: it is no run folder, or never reached its first checkpoint; train it anew."
        )
    return read_config_file(path)


def read_config_file(path: str | Path) -> dict[str, Any]:
    """Returns the content of a run's `config.yaml`, which may lie outside of the run folder.

    Raises:
        InputError: the file cannot be read, is damaged, or is from a newer version of the kit.
    """
    import yaml

    try:
        config = read_yaml(Path(path).read_bytes(), by_hand=False)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no valid YAML ({first_line(error)}); restore it from a copy.") from error
    if not isinstance(config, dict) or not isinstance(config.get("version"), int):
        raise InputError(f"{path} names no version; restore it from a copy.")
    if config["version"] > CONFIG_VERSION:
        raise InputError(
            f"{path} has version {config['version']} and this fewshot-kit reads up to {CONFIG_VERSION}; "
            "upgrade it with pip install -U fewshot-kit."
        )
    check_recipes(config, path)
    return config


def first_difference(recorded: Any, asked: Any, path: str = "") -> str | None:
    """Returns the first difference of two configurations in words, or None if they are equal.

    An example is `"training.meta_lr was 0.001 and is now 0.01"`.
    """
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for key in [*recorded, *(key for key in asked if key not in recorded)]:
            found = first_difference(recorded.get(key), asked.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return None
    if recorded == asked:
        return None
    return f"{path} was {_shown(recorded)} and is now {_shown(asked)}"


def _shown(value: Any) -> str:
    short = not isinstance(value, list) or len(value) <= 5
    return str(value) if short else f"[{value[0]}, {value[1]}, ... {len(value)} in all]"
