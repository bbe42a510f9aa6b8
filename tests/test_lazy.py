"""The packages whose names are imported when they are asked for have every name, and load nothing before."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys

import pytest

import fewshot_kit

ASKED = """
import sys
import fewshot_kit
assert "torch" not in sys.modules
assert set(fewshot_kit.__all__) < set(dir(fewshot_kit)) and "__version__" in dir(fewshot_kit)
assert not hasattr(fewshot_kit, "__main__") and not hasattr(fewshot_kit, "nothing")
assert fewshot_kit.errors.InputError and fewshot_kit.training.settings.TrainingSettings.ways == 5
assert "torch" not in sys.modules
assert fewshot_kit.algorithms.get("maml").__name__ == "MAML"
assert fewshot_kit.datasets.get("features").__module__ == "fewshot_kit.features"
assert fewshot_kit.training.Hooks.__module__ == "fewshot_kit.training.hooks"
from fewshot_kit import *
assert adapt is fewshot_kit.adaptation.adapt
"""


def test_in_a_python_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", ASKED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("package", [fewshot_kit, fewshot_kit.training])
def test_type_checkers_are_told_what_is_so(package) -> None:
    """The names below `if TYPE_CHECKING` are all of `__all__`, and are what the package gives."""
    (told,) = (node for node in ast.parse(inspect.getsource(package)).body if isinstance(node, ast.If))
    found = {}
    for node in told.body:
        assert isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names:
            place = ".".join([package.__name__, *filter(None, [node.module])])
            found[alias.name] = getattr(importlib.import_module(place), alias.name)
    assert sorted(found) == package.__all__
    assert all(getattr(package, name) is value for name, value in found.items())


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'fewshot_kit' has no attribute 'adpat'"):
        fewshot_kit.adpat  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Hook' from 'fewshot_kit.training'"):
        from fewshot_kit.training import Hook  # noqa: F401
