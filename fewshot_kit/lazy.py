"""Imports the public names of a package when they are first asked for (PEP 562): importing torch takes seconds."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, places: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns a package's `__getattr__` and `__dir__`. Its modules are attributes too, without an import of their own.

    Args:
        package: the package's name.
        places: the module that each other public name is imported from, such as `".state"`.
    """

    def found(name: str) -> Any:
        if name in places:
            value = getattr(importlib.import_module(places[name], package), name)
        elif not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            value = importlib.import_module(f".{name}", package)
        else:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        module = vars(sys.modules[package])
        return sorted({*module, *module["__all__"]})

    return found, names
