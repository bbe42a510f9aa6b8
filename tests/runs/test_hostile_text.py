"""YAML and checkpoints that somebody crafted: refused in a sentence, in bounded memory."""

from __future__ import annotations

import hostile
import pytest
import torch
import yaml

from fewshot_kit import disk
from fewshot_kit.errors import InputError
from fewshot_kit.experiments.settings import from_file
from fewshot_kit.runs.checkpoints import read_state
from fewshot_kit.runs.storage import read, write
from fewshot_kit.runs.yaml_text import read_yaml

TWICE = ["with libyaml", "without"]


@pytest.fixture(params=TWICE)
def loader(request, monkeypatch):
    if request.param == "without":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)


@pytest.mark.parametrize("name", hostile.YAML)
def test_yaml(loader, tmp_path, name):
    path = hostile.EVERY["yaml"][name](tmp_path)
    with pytest.raises(
        InputError, match=r"x.yaml (is no valid YAML: |has ways: |holds no settings|has a setting 'a0')"
    ):
        from_file(str(path))


def test_what_aliases_and_merges_are_for(loader):
    text = "base: &base {lr: 0.1, steps: 5}\nmore: {<<: *base, steps: 1}\ntwice: [*base, *base]\n"
    base = {"lr": 0.1, "steps": 5}
    assert read_yaml(text) == {"base": base, "more": {"lr": 0.1, "steps": 1}, "twice": [base, base]}


@pytest.mark.parametrize("name", hostile.META)
def test_checkpoints_of_odd_structure(tmp_path, name):
    write(tmp_path / "x.safetensors", {"w": torch.ones(2)}, hostile.META[name])
    with pytest.raises(InputError, match=r"x.safetensors (holds no algorithm; give|is damaged: its structure is none)"):
        read_state(tmp_path / "x.safetensors")


@pytest.mark.parametrize("name", hostile.HEADERS)
def test_safetensors_with_odd_metadata(tmp_path, name):
    path = hostile.HEADERS[name](tmp_path)
    with pytest.raises(InputError, match=r"x.safetensors (was not written by|is truncated or damaged|is damaged)"):
        read(path)
    assert isinstance(disk.metadata(path), dict)
