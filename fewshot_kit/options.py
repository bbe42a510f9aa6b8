"""What a factory can be made with: its options, and those of them that can be written down."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any


def options_of(factory: Callable[..., Any], *, annotated: bool = False) -> inspect.Signature:
    """The factory's signature, without annotations unless they are asked for.

    Where a class hands its `**options` on to the class it inherits from, the options of that one take their place.
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
    keywords = list(found.values()) if annotated else [p.replace(annotation=p.empty) for p in found.values()]
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
