"""Settings that come as text: read as YAML, and checked against what they are for."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Callable
from typing import Any

from .errors import InputError, first_line
from .options import options_of
from .registry import closest

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


def read_yaml(text: str | bytes) -> Any:
    """Plain YAML; `1e-3` is a number too, which YAML 1.1 reads as text. Raises `yaml.YAMLError`."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    exponent = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    return yaml.load(text, Loader)


def option(text: str) -> tuple[str, Any]:
    """`"lr=0.4"` -> `("lr", 0.4)`; the value is read as YAML. Here and below, argparse shows what is wrong."""
    import yaml

    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no option; write name=value, such as lr=0.4, and put anything else before the flag"
        )
    try:
        return name, read_yaml(value)
    except yaml.YAMLError as error:
        raise argparse.ArgumentTypeError(f"the value of '{text}' cannot be read ({first_line(error)})") from error


def whole(text: str) -> int:
    """A flag's whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None


def number(text: str) -> float:
    """A flag's number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None


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
