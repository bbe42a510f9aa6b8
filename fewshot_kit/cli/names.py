"""The names that there are, read from the kit's own files: importing what has them imports torch, for seconds."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import importlib.util
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from ..registry import Registry

KINDS = ("model", "algorithm", "dataset")
LIBRARIES = ("torchvision", "timm")  # whose models have names too
PACKAGE = Path(__file__).parents[1]


def check_names(arguments: argparse.Namespace) -> None:
    """Raises `UnknownName` for a flag's name of a model, algorithm or data set that there is not.

    A library's name such as `timm/NAME` is left to the command, and so is `auto`, which some commands take.
    """
    for kind in KINDS:
        name = getattr(arguments, kind, None)
        if name is not None and name != "auto" and "/" not in name:
            registry_of(kind, name).get(name)


def registry_of(kind: str, asked: str) -> Registry:
    """Returns the registry of `kind`, or one like it of what the files tell.

    The latter answers as the former does, but what it has for a name has a docstring alone. It is made where nothing
    that registers names is imported or installed.

    Args:
        asked: the name or pattern that it will be asked for.
    """
    room, told = f"{PACKAGE.name}.{kind}s", Registry(kind)
    declared = {} if room in sys.modules or "/" in asked or entry_points(group=told.group) else declarations(kind)
    if not declared:  # also where the files are packed away
        registry: Registry = importlib.import_module(f"{room}._registry").registry
        return registry
    for name, docstring in declared.items():
        told.register(name)(type(name, (), {"__doc__": docstring}))
    for library in LIBRARIES if kind == "model" else ():
        told.add_library(library, functools.partial(mentioned, library, asked), dict)
    return told


def declarations(kind: str) -> dict[str, str | None]:
    """Returns the names that a room's files register, or others for the room, each with its factory's docstring."""
    found: dict[str, str | None] = {}
    own, others = (PACKAGE / f"{kind}s").rglob("*.py"), PACKAGE.glob("*.py")
    for word, file in [*(("register", file) for file in own), *((f"{kind}s.register", file) for file in others)]:
        text = file.read_text(encoding="utf-8")
        for node in ast.parse(text).body if f"@{word}(" in text else ():
            for decorator in getattr(node, "decorator_list", ()):
                match decorator:
                    case ast.Call(func=called, args=[ast.Constant(value=str(name))]) if ast.unparse(called) == word:
                        found[name] = ast.get_docstring(node)  # type: ignore[arg-type]
    return found


def mentioned(library: str, name: str) -> list[str]:
    """Returns the name if a library's files of models have a function or a text of that name, or else nothing.

    So it may return what is no model, which only the library knows, but it leaves no model out.
    """
    found = importlib.util.find_spec(library)
    places: Any = found.submodule_search_locations if found else None
    word = re.compile(rf"def {re.escape(name)}\(|[\"']{re.escape(name)}[\"']".encode("utf-8", "surrogateescape"))
    files = (file for place in places or () for file in Path(place, "models").glob("*.py"))
    return [name] if any(word.search(file.read_bytes()) for file in files) else []
