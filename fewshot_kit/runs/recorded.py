"""Checks the form of what a run or a learner recorded. Its file may be altered, and its checksum with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError, brief
from ..options import check_settings

Made = TypeVar("Made")


def check_recipes(config: Any, source: str | Path) -> None:
    """Raises `InputError` for the first part of a `config.yaml`, or of a learner's recipes, that no run has."""
    if not isinstance(config, dict):
        raise InputError(f"{source} does not say how its algorithm is made; restore it from a copy.")
    for part in ("algorithm", "model", "data"):
        if (part in config or part != "data") and not _is_recipe(config.get(part)):
            raise InputError(f"{source} is incomplete: it does not say how the {part} is made; restore it from a copy.")
    _check(config, FORMS, "", source)
    _check(config.get("data", {}), DATA, "data.", source)
    _check(config.get("training", {}), TRAINING, "training.", source)


def from_recorded(kind: Callable[..., Made], values: Any, source: str | Path) -> Made:
    """Returns the dataclass `kind` with its recorded fields.

    Raises:
        InputError: a field that is missing, that does not exist or whose value is of another type; as `kind` does.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise InputError(
            f"{source} has {brief(values, 40)} in place of {fields[0].name} and so on; restore it from a copy."
        )
    check_settings(values, {field.name: field.type for field in fields}, str(source))
    try:
        return kind(**values)
    except TypeError:
        missing = [field.name for field in fields if field.name not in values]
        raise InputError(f"{source} lacks {missing[0]}; restore it from a copy.") from None


def _check(values: dict[str, Any], forms: dict[str, Callable[[Any], bool]], place: str, source: str | Path) -> None:
    for name, fits in forms.items():
        if name in values and not fits(values[name]):
            raise InputError(f"{source} has {place}{name}: {brief(values[name], 40)}; restore it from a copy.")


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_recipe(value: Any) -> bool:
    if not (_is_mapping(value) and isinstance(value.get("class"), str) and ("name" in value) == ("options" in value)):
        return False
    return "name" not in value or (isinstance(value["name"], str) and _is_mapping(value["options"]))


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


FORMS: dict[str, Callable[[Any], bool]] = {
    "frozen": _are_texts,
    "batch_norm": _or_none(lambda value: isinstance(value, str)),
    "training": _is_mapping,
    "test": _is_mapping,
}
DATA: dict[str, Callable[[Any], bool]] = {
    "example_shape": _or_none(lambda value: isinstance(value, list) and all(type(side) is int for side in value)),
    "transform": _or_none(_is_mapping),
    "statistics": _or_none(_is_mapping),
    "classes": lambda value: _is_mapping(value) and all(map(_are_texts, value.values())),
}
TRAINING: dict[str, Callable[[Any], bool]] = {"test_options": _is_mapping}
