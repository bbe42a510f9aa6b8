"""Recipes: the best training settings of each algorithm, in one YAML file per data set. The tables use them too.

A file has sections of settings, in the form that `--config` takes. The section `all` applies to every algorithm, and
the section `maml` to MAML alone. Conditions follow after commas: `maml, ways=20`. Later sections override earlier ones.
Every data set starts from `default.yaml`, and a data set without a file has no other recipe.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from ...runs.yaml_text import read_yaml


def sections(dataset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the title and the settings of every section for a data set. Later sections override earlier ones."""
    for name in ("default", dataset):
        for title, settings in _sections(name).items():
            yield title, dict(settings)


def applies(title: str, settings: Mapping[str, Any]) -> bool:
    """Returns whether the section with this title applies to these settings."""
    name, *conditions = (part.strip() for part in title.split(","))
    if name not in ("all", settings["algorithm"]):
        return False
    parted = (each.partition("=") for each in conditions)
    return all(str(settings[setting]) == value for setting, _, value in parted)


@functools.cache
def _sections(name: str) -> Mapping[str, Any]:
    for file in files(__package__).iterdir():  # and no path that a name may be, or one too long for a disk
        if file.name == f"{name}.yaml":
            return MappingProxyType(read_yaml(file.read_bytes()))
    return MappingProxyType({})
