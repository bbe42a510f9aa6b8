"""What installs the kit: the Makefile's set-up, the pins, and the wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

# Stands in for every program that the Makefile calls: writes down how it was called, and makes the .venv.
RECORDER = """#!/bin/sh
echo "$(basename "$0") $* [$UV_FIND_LINKS]" >> "$RECORD"
case "$*" in *venv*) mkdir -p .venv/bin; for name in python uv fewshot-kit; do cp "$0" .venv/bin/$name; done;; esac
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_sets_up_once_and_then_runs(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    program, record = tmp_path / "some-python", tmp_path / "record"
    program.write_text(RECORDER)
    program.chmod(0o755)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    environment = {key: value for key, value in os.environ.items() if key not in ("UV_FIND_LINKS", "MAKEFLAGS")}
    environment |= {"RECORD": str(record), "PIP_FIND_LINKS": "one two"}

    def make(target: str) -> list[str]:
        record.write_text("")
        command = ["make", "-s", target, f"PYTHON={program}"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
        return [line.replace(" [one,two]", "") for line in record.read_text().splitlines()]

    version_check, *first = make("demo")
    assert "sys.version_info >= (3, 10)" in version_check
    assert first[:3] == [
        "some-python -m venv .venv",
        "python -m pip install --quiet uv",
        "uv pip install --python .venv/bin/python -e .[dev]",
    ]
    assert first[3].startswith("fewshot-kit train --dataset glyphs") and len(first) == 4
    assert not (tmp_path / "runs" / "demo").exists()
    assert make("test") == ["python -m pytest"]
    os.utime(tmp_path / "pyproject.toml", (2**31, 2**31))  # newer than what is installed
    assert "uv pip install --python .venv/bin/python -e .[dev]" in make("test")


def test_every_dependency_has_a_tested_version_and_no_upper_bound() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in "#"]
    pins = {pin.name: pin for pin in map(Requirement, lines)}
    settings = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*?)^\]", settings, re.DOTALL | re.MULTILINE)
    needed = [Requirement(text) for text in re.findall(r'"(.+?)"', listed)]
    assert {need.name for need in needed} == set(pins)
    for need in needed:
        assert [bound.operator for bound in need.specifier] == [">="]
        (pin,) = pins[need.name].specifier
        assert pin.operator == "==" and need.specifier.contains(pin.version)
    for name in ("torch", "torchvision"):
        assert re.search(rf'constraint-dependencies = \[.*"{name}{pins[name].specifier}"', settings)


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path)]
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *flags, str(ROOT)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (scripts,) = (archive.read(name).decode() for name in held if name.endswith("entry_points.txt"))
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "fewshot_kit").rglob("*.py")}
    data = {"fewshot_kit/py.typed", "fewshot_kit/algorithms/measured.json"}
    data |= {str(path.relative_to(ROOT)) for path in (ROOT / "fewshot_kit" / "experiments" / "recipes").glob("*.yaml")}
    assert {name for name in held if ".dist-info/" not in name} == modules | data
    assert "fewshot-kit = fewshot_kit.cli:main" in scripts
    assert any(name.endswith("licenses/LICENSE") for name in held)
