"""`fewshot-kit list`: the registered names, each with a sentence."""

from __future__ import annotations

import argparse
import inspect
import json
from typing import Any

from .names import KINDS, registry_of


def list_names(arguments: argparse.Namespace) -> int:
    """Prints every registered name with a sentence, or with `--for` the algorithms that did best on such data."""
    if arguments.suited_to is not None:
        from .commands import list_suited  # it reads data, and needs torch

        return list_suited(arguments)
    rooms = {f"{kind}s": registry_of(kind, arguments.pattern) for kind in KINDS if arguments.kind in (None, f"{kind}s")}
    found = {
        room: {name: _sentence(registry.get(name)) for name in registry.names(arguments.pattern)}
        for room, registry in rooms.items()
    }
    if arguments.json:
        print(json.dumps(found))
        return 0
    for kind, named in found.items():
        print(f"{kind}:")
        width = max(map(len, named), default=0)
        for name, sentence in named.items():
            print(f"  {name:<{width}}  {sentence}")
        if not named:
            print(f"  nothing matches {arguments.pattern}")
        if kind == "models" and arguments.pattern == "*":
            print("  torchvision/NAME and timm/NAME: those libraries' own; fewshot-kit list models 'torchvision/*'")
    return 0


def _sentence(factory: Any) -> str:
    text = " ".join((inspect.getdoc(factory) or "").split("\n\n")[0].split())
    return text.split(". ")[0].rstrip(".") + "." if text else ""
