"""YAML as people write it, and as PyYAML does."""

import pytest
import yaml

from fewshot_kit.runs.yaml_text import read_yaml

NUMBERS = {"1e-3": 0.001, "1E3": 1000.0, "-2.5e+2": -250.0, ".5e1": 5.0, "1.e2": 100.0}


@pytest.mark.parametrize("built", ["with libyaml", "without"])
def test_exponents_are_numbers_where_people_write_them(monkeypatch, built):
    if built == "without":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert read_yaml(f"[{', '.join(NUMBERS)}]") == list(NUMBERS.values())
    words = "{lr: 5, name: e3, other: 1e, text: '1e-3', on: yes, none: null, list: [1.5, a]}"
    expected = {"lr": 5, "name": "e3", "other": "1e", "text": "1e-3", True: True, "none": None, "list": [1.5, "a"]}
    assert read_yaml(words) == read_yaml(words, by_hand=False) == expected


def test_what_was_written_comes_back():
    """A class of this name is written without quotes, since YAML 1.1 takes it for text."""
    content = {"classes": ["12e4", "1e-3", "007", "1.5"], "lr": 1e-5, "meta_lr": 1e300}
    assert read_yaml(yaml.safe_dump(content), by_hand=False) == content


def test_objects_of_python_are_refused():
    with pytest.raises(yaml.YAMLError):
        read_yaml("!!python/object/apply:os.system ['true']")
