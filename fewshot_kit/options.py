"""What a factory can be made with: its options, and those of them that can be written down."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from .errors import InputError, closest


def options_of(factory: Callable[..., Any], *, annotated: bool = False) -> inspect.Signature:
    """The factory's signature, without annotations unless they are asked for.

    Where a class hands its `**options` on to the class it inherits from, the options of that one take their place.
    Arguments that a class lists in `not_options` are left out: they are for Python code alone.
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
    """The options that JSON and YAML can hold; a path becomes a string."""
    options = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    return {name: value for name, value in options.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


# Annotation -> the types that YAML has for it, and what to call them.
KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "str": ((str,), "text"),
    "Path": ((str,), "a path"),
    "Sequence": ((list, tuple), "a list, such as [1, 2]"),
    "dict": ((dict,), "a mapping, such as {name: value}"),
    "None": ((type(None),), "null"),
    "Criterion": ((), "a function, which Python alone can give"),
    "Callable": ((), "a function, which Python alone can give"),
    "nn.Module": ((), "a module, which Python alone can give"),
}


def wanted(value: Any, annotation: Any) -> str | None:
    """What a value has to be, in words, where it does not fit its annotation; None where it fits, or none can tell."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    names = [part.split("[")[0].strip() for part in text.split("|")]
    if any(name not in KINDS for name in names):
        return None
    if any(isinstance(value, KINDS[name][0]) and (name == "bool" or not isinstance(value, bool)) for name in names):
        return None
    return " or ".join(KINDS[name][1] for name in names)


def check_options(factory: Callable[..., Any], options: dict[str, Any], what: str) -> None:
    """Raise `InputError` for the first option with a value of another kind than the factory's annotation says."""
    parameters = options_of(factory, annotated=True).parameters
    for name, value in options.items():
        kind = wanted(value, parameters[name].annotation) if name in parameters else None
        if kind:
            raise InputError(f"The option {name} of {what} is {value!r}; it must be {kind}.")


def check_settings(settings: dict[Any, Any], annotations: dict[str, Any], source: str) -> None:
    """Raise `InputError` for the first setting of a file that does not exist, or has a value of another kind."""
    for name, value in settings.items():
        if name not in annotations:
            raise InputError(
                f"{source} has a setting '{name}' that does not exist.{closest(str(name), list(annotations))}"
            )
        kind = wanted(value, annotations[name])
        if kind:
            raise InputError(f"{source} has {name}: {value!r}; it must be {kind}.")
