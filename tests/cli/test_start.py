"""Help, lists and mistakes are answered without torch, which takes seconds to import, and in the same words as with it.

In the tests' own process torch and the registries are imported, so that its answers come from these.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import hostile
import pytest

from fewshot_kit import algorithms, datasets, models
from fewshot_kit.cli.names import declarations, mentioned
from fewshot_kit.models.from_timm import timm_names
from fewshot_kit.models.from_torchvision import torchvision_names

START = """
import sys
from fewshot_kit.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as stopped:
    status = stopped.code
print(status, "torch" in sys.modules, file=sys.stderr)
"""
LINES = [
    "",
    "--help",
    "--version",
    *(f"{command} --help" for command in ("train", "evaluate", "adapt", "list", "cache", "doctor")),
    "list",
    "list --json",
    "list models '*net*'",
    "list algorithms '*maml*' --json",
    "list datasets",
    "list models zebra*",
    "evalute run",
    "trian --json",
    "list model",
    "train --itterations 5",
    "train --ways five",
    "evaluate run --episode 5",
    "train --algorithm mamll",
    "train --algorithm mamll --json",
    "train --dataset glyphz --processes 2",
    "train --dataset feature",
    "train --model conv5",
    "train --model \udce9",
    "evaluate run --dataset omniglott",
    "adapt run photos photo.png --algorithm protonets",
]


def started(line: str, **environment: str) -> tuple[str, str, str]:
    """Stdout, stderr and, as its last line, the exit status and whether torch was imported, of a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", START, *shlex.split(line)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
    )
    *err, last = done.stderr.splitlines(keepends=True)
    return done.stdout, "".join(err), last.strip()


@pytest.mark.parametrize("line", LINES)
def test_without_torch_in_the_same_words(cli, monkeypatch, line):
    monkeypatch.setenv("COLUMNS", "100")
    out, err, last = started(line)
    if line.endswith(("--help", "--version")):
        with pytest.raises(SystemExit):
            cli(line)
        assert (out, err, last) == (*cli.capture.readouterr(), "0 False")
    else:
        said = cli(line)
        assert (out, err, last) == (said.out, said.err, f"{said.status} False")


@pytest.mark.parametrize("room", [algorithms, datasets, models])
def test_the_files_tell_of_all_that_is_registered(room):
    kind = room.__name__.rpartition(".")[2].removesuffix("s")
    assert sorted(declarations(kind)) == room.names()
    assert {room.get(name).__doc__ is not None for name in room.names()} == {True}


@pytest.mark.parametrize(("library", "names"), [("torchvision", torchvision_names), ("timm", timm_names)])
def test_no_model_of_a_library_is_taken_for_a_mistake(library, names):
    some = names()[:: 1 + len(names()) // 100]
    assert [name for name in some if mentioned(library, name) != [name]] == []
    assert mentioned(library, "conv5") == mentioned("no_such_library", "resnet18") == []


PLUGIN = """
import torch
from fewshot_kit import algorithms

class Mine(algorithms.Algorithm):
    "One of somebody else's."
"""


def test_plugins_are_listed_and_suggested_whether_or_not_they_load(tmp_path: Path) -> None:
    (tmp_path / "plugin_of_mine.py").write_text(PLUGIN)
    entries = b"[fewshot_kit.algorithms]\nmine_own = plugin_of_mine:Mine\ngone = plugin_that_is_gone:Gone\n"
    hostile.put(tmp_path / "plugin_of_mine-1.dist-info", "entry_points.txt", entries)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    out, err, last = started("list algorithms --json", PYTHONPATH=path)
    found = json.loads(out)["algorithms"]
    assert found["mine_own"] == "One of somebody else's." and "maml" in found and last == "0 True"
    assert "failed to load its algorithm 'gone' (ModuleNotFoundError" in err
    _, err, last = started("train --algorithm mine_onw", PYTHONPATH=path)
    assert "Unknown algorithm 'mine_onw'. Did you mean 'mine_own'?" in err and last == "2 True"
    assert started("list datasets", PYTHONPATH=path)[2] == "0 False"  # for which there is no plug-in
