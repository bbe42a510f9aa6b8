"""Plain YAML."""

from __future__ import annotations

import re
from typing import Any


def read_yaml(text: str | bytes) -> Any:
    """Plain YAML; `1e-3` is a number too, which YAML 1.1 reads as text. Raises `yaml.YAMLError`."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    exponent = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", exponent, list("-+.0123456789"))
    return yaml.load(text, Loader)
