"""Flags for the settings, and functions that read their values."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from ..errors import first_line
from ..experiments.train_config import FIELDS
from ..runs.yaml_text import read_yaml

SHEET = "predictions.png"  # the contact sheet of `adapt`


def option(text: str) -> tuple[str, Any]:
    """Reads `"lr=0.4"` as `("lr", 0.4)`; the value is YAML. argparse prints the error of a wrong text."""
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
    """Reads a flag's whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number") from None


def number(text: str) -> float:
    """Reads a flag's number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no number") from None


PARSERS: dict[str, tuple[Any, str]] = {"int": (whole, "N"), "int | None": (whole, "N"), "float": (number, "RATE")}


def add_flags(parser: argparse.ArgumentParser, names: list[str] | None = None, default: str | None = None) -> None:
    """Adds a flag for each setting, or for the named ones. A flag that is not given leaves nothing in the namespace.

    Args:
        default: the default that the help shows, if it is not the setting's own.
    """
    for name in names or FIELDS:
        setting = FIELDS[name]
        flag, text = "--" + name.replace("_", "-"), setting.metadata["help"]
        shown = default or setting.default
        if shown not in ("", None, False, dataclasses.MISSING):
            text += f" (default: {shown})"
        kind, metavar = PARSERS.get(str(setting.type), (str, "NAME"))
        if setting.type == "bool":
            many: dict[str, Any] = {"action": "store_true"}
        elif name.endswith("_options"):  # `one_by_one` repeats the flag for each
            many = {"type": option, "nargs": 1, "action": "extend", "metavar": "NAME=VALUE ..."}
        else:
            many = {"type": kind, "metavar": metavar}
        parser.add_argument(flag, default=argparse.SUPPRESS, help=text, **many)


def one_by_one(argv: Sequence[str]) -> list[str]:
    """Turns `--model-options a=1 b=2 photos/` into `--model-options a=1 --model-options b=2 photos/`.

    argparse would take files after such a flag for options. A file or folder without `=` in its name ends the options.
    """
    found: list[str] = []
    flag = None
    for place, word in enumerate(argv):
        if word.startswith("-"):
            flag = word if word.endswith("-options") else None
        elif flag is not None and "=" not in word and os.path.exists(word):
            flag = None
        elif flag is not None and argv[place - 1] != flag:
            found.append(flag)
        found.append(word)
    return found


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings whose flags were given."""
    found = {name: value for name, value in vars(arguments).items() if name in FIELDS}
    return {name: dict(value) if name.endswith("_options") else value for name, value in found.items()}
