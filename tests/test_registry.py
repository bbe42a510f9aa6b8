"""Registering, listing and creating by name; plug-ins are real distributions, built and installed here."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import nn

from fewshot_kit import algorithms, registry
from fewshot_kit.errors import InputError, UnknownName
from fewshot_kit.options import options_of
from fewshot_kit.registry import Registry


class Made:
    def __init__(self, size: int = 1, **more: object) -> None:
        self.size, self.more = size, more


def bananas(count: int, ripe: bool = True) -> Made:
    return Made(count)


@pytest.fixture
def fruits() -> Registry:
    """A registry with `bananas` and `pear`."""
    made = Registry("fruit")
    made.register("bananas")(bananas)
    made.register("pear")(Made)
    return made


def test_names_are_sorted_and_filtered(fruits: Registry) -> None:
    fruits.register("apple")(Made)
    assert fruits.names() == ["apple", "bananas", "pear"]
    assert fruits.names("*p*") == ["apple", "pear"]
    assert fruits.names("nothing") == []
    assert algorithms.names("*maml") == ["fomaml", "imaml", "maml"]


def test_register_hands_back_what_it_got(fruits: Registry) -> None:
    assert fruits.register("mine")(Made) is Made
    assert fruits.get("mine") is Made


def test_a_name_taken_twice_names_both_definitions(fruits: Registry) -> None:
    with pytest.raises(InputError) as raised:
        fruits.register("pear")(bananas)
    here = __name__
    assert str(raised.value) == f"The fruit name 'pear' is taken by {here}.Made; give {here}.bananas another one."
    assert fruits.get("pear") is Made


def test_an_unknown_name_shows_the_nearest_and_the_fix(fruits: Registry) -> None:
    with pytest.raises(LookupError) as raised:
        fruits.create("banana")
    assert isinstance(raised.value, UnknownName) and not isinstance(raised.value, KeyError)
    assert str(raised.value) == (
        "Unknown fruit 'banana'. Did you mean 'bananas'?\n"
        'Available: bananas, pear.  Add one with @fruits.register("banana").'
    )
    with pytest.raises(UnknownName, match=r"^Unknown fruit 'xyz'\.\nAvailable"):
        fruits.get("xyz")


def test_a_wrong_option_is_named_with_the_signature(fruits: Registry) -> None:
    with pytest.raises(InputError) as raised:
        fruits.create("bananas", cuont=2)
    assert str(raised.value) == (
        "The fruit 'bananas' has no option 'cuont'. Did you mean 'count'? It is made as bananas(count, ripe=True)."
    )
    with pytest.raises(InputError, match=r"needs more: missing a required argument: 'count'\. It is made as bananas\("):
        fruits.create("bananas", ripe=False)


def test_options_handed_on_to_a_base_class_are_known() -> None:
    class Base:
        def __init__(self, model: object, lr: float, *, steps: int = 1) -> None: ...

    class First(Base):
        def __init__(self, model: object, lr: float = 0.5, **options: int) -> None:
            super().__init__(model, lr, **options)

    class Fixed(First):
        def __init__(self, model: object, **options: int) -> None:
            super().__init__(model, lr=0.1, **options)

    fruits = Registry("fruit")
    fruits.register("first")(First)
    fruits.register("fixed")(Fixed)
    assert str(options_of(First)) == "(model, lr=0.5, *, steps=1)"
    with pytest.raises(InputError, match=r"no option 'stepz'\. Did you mean 'steps'\? .* first\(model, lr=0.5, \*, st"):
        fruits.create("first", model=1, stepz=2)
    with pytest.raises(InputError, match=r"'fixed' has no option 'lr'\. It is made as fixed\(model, \*, steps=1\)\."):
        fruits.create("fixed", model=1, lr=0.2)


def test_a_mistake_inside_a_factory_is_not_taken_for_a_wrong_option(fruits: Registry) -> None:
    @fruits.register("rotten")
    def rotten(size: int = 1) -> Made:
        return Made(size) + size  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        fruits.create("rotten", size=2)


def test_an_object_is_handed_back_as_it_is(fruits: Registry) -> None:
    mine = Made()
    assert fruits.create(mine) is mine and not hasattr(mine, "recipe")
    with pytest.raises(InputError, match="The options size go with the name of a registered fruit; Made is an object"):
        fruits.create(mine, size=3)


def test_the_recipe_holds_the_plain_options(fruits: Registry) -> None:
    made = fruits.create("pear", size=3, tags=("a", {"b": None}), folder=Path("x") / "y")
    plain = {"size": 3, "tags": ("a", {"b": None}), "folder": str(Path("x/y"))}
    assert made.recipe == {"name": "pear", "options": plain, "complete": True}
    assert made.more["folder"] == Path("x/y")
    made = fruits.create("pear", model=nn.Linear(1, 1), weights=torch.zeros(2), criterion=functools.partial(max))
    assert made.recipe == {"name": "pear", "options": {}, "complete": False}
    assert fruits.create("pear", model=nn.Linear(1, 1)).recipe["complete"]


def test_a_name_of_elsewhere_is_imported_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    fruits = Registry("fruit", {"hue": "colorsys.rgb_to_hsv"})
    fruits.register("pear")(Made)
    assert fruits.names() == ["hue", "pear"] and fruits.knows("hue") and fruits.full_name("hue") == "hue"
    with pytest.raises(InputError, match="'hue' is taken by colorsys.rgb_to_hsv; give .*bananas another one"):
        fruits.register("hue")(bananas)
    with pytest.raises(UnknownName, match="Did you mean 'hue'"):
        fruits.get("huge")
    assert "colorsys" not in sys.modules
    found = fruits.get("hue")
    assert found(1.0, 0.0, 0.0) == (0.0, 1.0, 1.0)
    assert fruits.register("hue")(found) is fruits.get("hue")  # as its own module does


def test_a_broken_plugin_warns_once_and_is_an_error_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("bad", "no_such_module_at_all:Thing", "fewshot_kit.fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken])
    fruits = Registry("fruit")
    fruits.register("pear")(Made)
    assert fruits.create("pear").size == 1  # found without a look at the plug-ins
    with pytest.warns(UserWarning, match="plug-in 'no_such_module_at_all:Thing' failed to load its fruit 'bad'"):
        assert fruits.names() == ["pear"]
    assert fruits.names() == ["pear"]
    with pytest.raises(InputError, match="ModuleNotFoundError: No module named 'no_such_module_at_all'") as raised:
        fruits.create("bad")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_a_plugin_cannot_take_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = EntryPoint("pear", "collections:OrderedDict", "fewshot_kit.fruits")
    monkeypatch.setattr(registry, "entry_points", lambda group: [taken])
    fruits = Registry("fruit")
    fruits.register("pear")(Made)
    with pytest.warns(UserWarning, match="name 'pear' is taken by .*Made"):
        fruits.names()
    assert fruits.get("pear") is Made


PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "fewshot-plugin"
version = "1.0"

[project.entry-points."fewshot_kit.models"]
tiny = "fewshot_plugin:Tiny"
gone = "fewshot_plugin_that_is_gone:Gone"

[project.entry-points."fewshot_kit.algorithms"]
mean = "fewshot_plugin:Mean"
"""

MODULE = """
import torch
from fewshot_kit import algorithms, models

@models.register("tiny")
class Tiny(torch.nn.Linear):
    def __init__(self, ways=5):
        super().__init__(3, ways)

class Mean(algorithms.Algorithm):
    def adapt(self, x, y):
        return x.mean(0)

    def predict(self, state, x):
        return self.model(x - state)
"""

USE = """
import sys, warnings
from fewshot_kit import algorithms, models
from fewshot_kit.errors import InputError

assert "fewshot_plugin" not in sys.modules
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(algorithms.names("mean"), models.names("tiny"), models.names("gone"))
    algorithms.names(), models.names()
print(*(warning.message for warning in caught), sep="|")
mean = algorithms.create("mean", model=models.create("tiny", ways=2))
print(type(mean).__name__, mean.model.out_features, mean.recipe["name"])
try:
    models.create("gone")
except InputError as error:
    print(error)
"""


def test_a_plugin_distribution_needs_no_import(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "pyproject.toml").write_text(PYPROJECT)
    (source / "fewshot_plugin.py").write_text(MODULE)
    flags = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *flags, "--target", str(target), str(source)]
    built = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    path = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
    used = subprocess.run(
        [sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (used.returncode, used.stderr) == (0, ""), used.stderr
    failed = (
        "The plug-in 'fewshot-plugin' failed to load its model 'gone' "
        "(ModuleNotFoundError: No module named 'fewshot_plugin_that_is_gone')."
    )
    assert used.stdout.splitlines() == ["['mean'] ['tiny'] []", failed, "Mean 2 mean", failed]
