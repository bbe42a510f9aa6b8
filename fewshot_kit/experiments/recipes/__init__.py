"""The settings that each algorithm is best trained with, by data set: the files beside this, which the tables use too.

A file has sections of settings, as `--config` takes them. The section `all` is for every algorithm, that of a name for
that one, and what follows a comma is a condition: `maml, ways=20`. Of sections that apply, later ones win. A data set
without a file has `default.yaml` alone, which is below all the others.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from ...runs.yaml_text import read_yaml


def sections(dataset: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The title and the settings of every section that is about a data set, from the least to the most special."""
    for name in ("default", dataset):
        for title, settings in _sections(name).items():
            yield title, dict(settings)


def applies(title: str, settings: Mapping[str, Any]) -> bool:
    """Whether a section is for these settings."""
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
