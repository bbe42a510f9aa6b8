"""Reads plain YAML."""

from __future__ import annotations

import re
from typing import Any

from ..errors import first_line

EXPONENT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
MERGE = "tag:yaml.org,2002:merge"
MOST = 10_000_000  # values; a run of a million classes has a tenth of that
LONGEST = 1024  # bits of a whole number; Python writes no numbers of more than 4,300 digits into a message


def read_yaml(text: str | bytes, by_hand: bool = True) -> Any:
    """Reads plain YAML, with libyaml if PyYAML has it, which takes a tenth of the time.

    Args:
        by_hand: whether a person wrote the text. People write numbers such as `1e-3`, which YAML 1.1 reads as text.
            PyYAML never writes numbers so: in its files such a word is text, for example the name of a class.

    Raises:
        yaml.YAMLError: the text is no YAML, or holds values that do not exist (`2001-99-99`), huge numbers, or
            aliases that unfold to more than `MOST` values.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        merged = 0  # keys that `<<` repeats, which merges of merges multiply

        def flatten_mapping(self, node: Any) -> None:
            for value in [value for key, value in node.value if key.tag == MERGE]:
                for each in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(each, yaml.MappingNode):
                        self.flatten_mapping(each)
                        self.merged += len(each.value)
                    if self.merged > MOST:
                        raise yaml.YAMLError(f"its << unfold to more than {MOST:,} values")
            super().flatten_mapping(node)

    if by_hand:
        Loader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+.0123456789"))
    try:
        content = yaml.load(text, Loader)
        if _count(content, {}) > MOST:
            raise yaml.YAMLError(f"its aliases unfold to more than {MOST:,} values")
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML's functions for dates and numbers, and too many brackets
        raise yaml.YAMLError(first_line(error)) from error
    return content


def _count(value: Any, counted: dict[int, int]) -> int:
    """Returns the number of values with all aliases written out, which may be far more than there are in memory.

    Args:
        counted: the numbers of values in the lists and mappings so far, by their ids.
    """
    if isinstance(value, int) and value.bit_length() > LONGEST:
        raise ValueError(f"a whole number of {value.bit_length():,} bits")
    if not isinstance(value, dict | list | tuple | set):
        return 1
    if id(value) not in counted:
        counted[id(value)] = MOST  # which stays if the value holds itself
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        counted[id(value)] = 1 + sum(_count(each, counted) for each in inside)
    return counted[id(value)]
