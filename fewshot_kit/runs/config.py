"""`config.yaml` of a run folder: everything that defines a run, as text."""

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
from .storage import write_bytes
from .yaml_text import read_yaml

CONFIG_VERSION = 1
ACCEPT = "--accept-edited (in Python accept_edited=True)"  # how a file that was edited is used all the same


def plain(value: Any) -> Any:
    """A value as YAML and JSON know it; TypeError where there is none."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise TypeError(f"{type(value).__name__} is no plain value")


def _recipe(made: Any) -> dict[str, Any]:
    """How a registry made this; only the class of what was made by hand, or with options that no text can hold."""
    recipe = getattr(made, "recipe", None)
    described: dict[str, Any] = {"class": f"{type(made).__module__}.{type(made).__qualname__}"}
    if recipe and recipe["complete"]:
        with contextlib.suppress(TypeError):
            described |= {"name": recipe["name"], "options": plain(recipe["options"])}
    return described


def _described(data: DataSet) -> dict[str, Any]:
    """A data set: its recipe, what an example looks like, and the classes of splits that have any."""
    own = data.train if isinstance(data.train, Split) else None
    described = _recipe(data) | {
        "example_shape": plain(data.train.example_shape),
        "transform": plain(own.transform if own else None),
    }
    if own and own.x.dtype == torch.uint8 and own.x.dim() == 4:
        described["statistics"] = plain(measured(own.x))  # of images only, for `likeness.unlike`
    classes = classes_of(data)
    return described | ({"classes": classes} if classes else {})


def describe(
    algorithm: Algorithm, data: DataSet | None = None, training: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The content of `config.yaml`: model, algorithm, data set (transform, statistics, class names) and training."""
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
    """Write `config.yaml`, atomically."""
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
    """The content of a run folder's `config.yaml`.

    Raises:
        InputError: no folder, a folder without a run, a damaged file, or one from a newer version of the kit.
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
    """As `read_config`, of a run's `config.yaml` wherever it lies."""
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
    for part in ("algorithm", "model"):
        recipe = config.get(part)
        if not isinstance(recipe, dict) or "class" not in recipe or ("name" in recipe) != ("options" in recipe):
            raise InputError(f"{path} is incomplete: it does not say how the {part} is made; restore it from a copy.")
    return config


def first_difference(recorded: Any, asked: Any, path: str = "") -> str | None:
    """Where two configurations first differ, in words: `"training.meta_lr was 0.001 and is now 0.01"`."""
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
