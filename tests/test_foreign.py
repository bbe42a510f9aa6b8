"""Plug-ins that exit, interrupt, print or fail at import: named, never fatal, and never on stdout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import hostile
import pytest

from fewshot_kit import registry
from fewshot_kit.errors import InputError
from fewshot_kit.foreign import Failed, contained
from fewshot_kit.registry import Registry

WHY = {
    "exits": "SystemExit: 3",
    "interrupts": "KeyboardInterrupt: KeyboardInterrupt",
    "closes": "GeneratorExit: GeneratorExit",
    "fails": "ZeroDivisionError: division by zero",
    "torn": "SyntaxError: invalid syntax",
    "makes nothing": "bad:Thing is of type int and makes nothing",
    "lacks it": "AttributeError: module 'bad' has no attribute 'Thing'",
}


@pytest.mark.parametrize("name", WHY)
def test_a_plugin_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    hostile.put(tmp_path, "bad.py", hostile.PLUGINS[name].encode())
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = EntryPoint("bad", "bad:Thing", "fewshot_kit.fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])
    fruits = Registry("fruit")
    fruits.register("pear")(dict)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.warns(UserWarning) as caught:
        assert fruits.names() == ["pear"]
    sys.modules.pop("bad", None)
    (said,) = caught
    assert str(said.message).startswith(f"The plug-in 'bad:Thing' failed to load its fruit 'bad' ({WHY[name]}")
    with pytest.raises(InputError, match="failed to load its fruit 'bad'"):
        fruits.create("bad")
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_while_a_plugin_is_imported_is_ctrl_c() -> None:
    with pytest.raises(KeyboardInterrupt), contained():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass
    with pytest.raises(Failed, match="KeyboardInterrupt"), contained():
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["exits", "interrupts", "closes"])
def test_a_file_that_leaves(cli, tmp_path: Path, name: str) -> None:
    file = hostile.put(tmp_path, "bad.py", hostile.PLUGINS[name].encode())
    assert f"--plugin {file} fails in line " in cli.refused(f"list algorithms --plugin {file}")


@pytest.mark.parametrize("how", ["entry point", "file"])
def test_what_is_printed_at_import_is_not_in_the_json(tmp_path: Path, how: str) -> None:
    file = hostile.put(tmp_path, "noisy.py", hostile.PLUGINS["prints"].encode())
    flags = ["--plugin", str(file)] if how == "file" else []
    if how == "entry point":
        hostile.put(tmp_path / "noisy-1.dist-info", "METADATA", b"Metadata-Version: 2.1\nName: noisy\nVersion: 1\n")
        hostile.put(tmp_path / "noisy-1.dist-info", "entry_points.txt", b"[fewshot_kit.models]\nloud = noisy:Thing\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "fewshot_kit", "list", "models", "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert ("loud" in json.loads(done.stdout)["models"]) == (how == "entry point")
    assert sorted(done.stderr.split()) == ["one", "three", "two"]
