"""Reads plain YAML."""

from __future__ import annotations

import re
from typing import Any

EXPONENT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")


def read_yaml(text: str | bytes, by_hand: bool = True) -> Any:
    """Reads plain YAML, with libyaml if PyYAML has it, which takes a tenth of the time.

    Args:
        by_hand: whether a person wrote the text. People write numbers such as `1e-3`, which YAML 1.1 reads as text.
            PyYAML never writes numbers so: in its files such a word is text, for example the name of a class.

    Raises:
        yaml.YAMLError: the text is no YAML.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    if by_hand:
        Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
    return yaml.load(text, Loader)
