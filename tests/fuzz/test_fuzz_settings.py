"""Settings and a run's `config.yaml`: any text, and what they hold with odd values in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from fuzzing import YAML, changed, odd, outcome
from hypothesis import example, given
from hypothesis import strategies as st

from fewshot_kit.experiments.settings import TrainConfig, from_file, from_recipe

SETTINGS = dataclasses.asdict(TrainConfig(model_options={"hidden": 8}, algorithm_options={"lr": 0.1, "steps": 2}))


def use(path: Path) -> None:
    outcome(lambda: TrainConfig(**from_recipe(from_file(str(path)))))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "x.yaml"


@example(text=b'"\\x1e": 1')
@example(text=b"ways: " + b"x" * 100_000)
@example(text=b"dataset: " + b"x" * 300)
@example(text=b'model: "a\\nb"')
@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_text(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    use(file)


@given(text=changed(yaml.safe_dump(SETTINGS).encode()))
def test_changed_text(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    use(file)


@given(settings=odd(SETTINGS, YAML))
def test_odd_settings(file: Path, settings: Any) -> None:
    file.write_text(yaml.safe_dump(settings))
    use(file)
