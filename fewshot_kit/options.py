"""Reads the options of factories, checks their values, and finds those that JSON and YAML can hold."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from .errors import InputError, brief, closest


def options_of(factory: Callable[..., Any], *, annotated: bool = False) -> inspect.Signature:
    """Returns the factory's signature, without annotations unless they are asked for.

    If a class passes `**options` to its base class, the base class's options take their place. Arguments in the class's
    `not_options` are left out, because they are for Python code only.
    """
    found = dict(inspect.signature(factory).parameters)
    if inspect.isclass(factory):
        for base in factory.__mro__[1:]:
            rest = [name for name, p in found.items() if p.kind is p.VAR_KEYWORD]
            if not rest or base is object:
                break
            if "__init__" in vars(base):
                del found[rest[0]]
                own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
                found |= {p.name: p for p in own if p.name not in found}
    options = [p for name, p in found.items() if name not in getattr(factory, "not_options", ())]
    keywords = options if annotated else [p.replace(annotation=p.empty) for p in options]
    return inspect.Signature(sorted(keywords, key=_order))


def _order(parameter: inspect.Parameter) -> tuple[int, bool]:
    optional = parameter.kind <= parameter.POSITIONAL_OR_KEYWORD and parameter.default is not parameter.empty
    return int(parameter.kind), optional


def plain_options(options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options that JSON and YAML can hold. A path becomes a string."""
    options = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    return {name: value for name, value in options.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


# YAML's types for an annotation, and a word for them.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text"),
    "Path": ((str,), "a path"),
    "tuple": ((list, tuple), "a list, such as [1, 2]"),
    "Sequence": ((list, tuple), "a list, such as [1, 2]"),
    "dict": ((dict,), "a mapping, such as {name: value}"),
    "None": ((type(None),), "null"),
    "Criterion": ((), "a function, which Python alone can give"),
    "Callable": ((), "a function, which Python alone can give"),
    "nn.Module": ((), "a module, which Python alone can give"),
}


def wanted(value: Any, annotation: Any) -> str | None:
    """Returns in words what the annotation asks for, or None if the value fits or the annotation is not in `KINDS`."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    names = [part.split("[")[0].strip() for part in text.split("|")]
    if any(name not in KINDS for name in names):
        return None
    if any(isinstance(value, KINDS[name][0]) and (name == "bool" or not isinstance(value, bool)) for name in names):
        return None
    return " or ".join(KINDS[name][1] for name in names)


def check_options(factory: Callable[..., Any], options: dict[str, Any], what: str) -> None:
    """Raises `InputError` for the first option whose value does not fit the factory's annotation."""
    parameters = options_of(factory, annotated=True).parameters
    for name, value in options.items():
        if not isinstance(name, str):
            raise InputError(f"{what} has no option {brief(repr(name))}; the names of options are text.")
        kind = wanted(value, parameters[name].annotation) if name in parameters else None
        if kind:
            raise InputError(f"The option {name} of {what} is {brief(repr(value))}; it must be {kind}.")


def check_settings(settings: dict[Any, Any], annotations: dict[str, Any], source: str) -> None:
    """Raises `InputError` for a file's first setting that does not exist, or whose value does not fit."""
    for name, value in settings.items():
        if name not in annotations:
            raise InputError(
                f"{source} has a setting '{brief(name)}' that does not exist.{closest(str(name), list(annotations))}"
            )
        kind = wanted(value, annotations[name])
        if kind:
            raise InputError(f"{source} has {name}: {brief(repr(value))}; it must be {kind}.")
