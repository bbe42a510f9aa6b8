"""A data set that changed since a run was trained is split as the run recorded it."""

from __future__ import annotations

import pytest
import torch

from fewshot_kit import datasets
from fewshot_kit.datasets import Data, Split
from fewshot_kit.datasets.splits.recorded import as_recorded, classes_of
from fewshot_kit.errors import InputError


def letters(train: str, validation: str, test: str, rotations: str = "none") -> Data[Split]:
    """Three images of each letter; every pixel of an image of x says which letter and which image it is."""

    def split(names: str, title: str, turned: str = "none") -> Split:
        pixels = [10 * (ord(name) - ord("a")) + number for name in names for number in range(3)]
        x = torch.tensor(pixels, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
        y = torch.arange(len(names)).repeat_interleave(3)
        return Split(x, y, list(names), f"the {title} split", turned)

    splits = split(train, "training", rotations), split(validation, "validation") if validation else None
    return Data("letters", *splits, split(test, "test"), {})


def same(one: Data[Split], other: Data[Split]) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("train", "validation", "test")]
    return classes_of(one) == classes_of(other) and all(
        torch.equal(a.x, b.x) and torch.equal(a.y, b.y) and (a.name, a.rotations) == (b.name, b.rotations)
        for a, b in pairs
        if a is not None or b is not None
    )


@pytest.mark.parametrize("rotations", ["none", "classes"])
def test_what_grew_is_split_as_it_was(rotations: str) -> None:
    before = letters("adg", "be", "cf", rotations)
    grown = letters("abch", "dx", "efgy", rotations)
    found, said = as_recorded(grown, classes_of(before), "RUN")
    assert same(found, before)
    assert said == (
        "letters has 3 classes that RUN does not know ('h', 'x', 'y'): they are left out, and its classes are split as "
        "they were."
    )
    generator = [torch.Generator().manual_seed(0) for _ in range(2)]
    one, other = (
        data.train.episodes(2, 1, 1, 3, generator=each) for data, each in zip((found, before), generator, strict=True)
    )
    assert all(map(torch.equal, one, other))


def test_what_only_moved_is_put_back() -> None:
    before = letters("adg", "", "cf")
    found, said = as_recorded(letters("cdg", "", "af"), classes_of(before), "RUN")
    assert same(found, before)
    assert "2 classes in other splits than when RUN was trained ('c', 'a'): they are put back" in said


def test_what_is_as_it_was_is_left_alone() -> None:
    data = letters("adg", "be", "cf")
    sines = datasets.create("sinusoid")
    for recorded in (classes_of(data), {}):
        found, said = as_recorded(data, recorded, "RUN")
        assert found is data and said == ""
    assert as_recorded(sines, {"train": ["sine"], "test": ["sine"]}, "RUN")[0] is sines  # as earlier versions wrote
    found, said = as_recorded(letters("gda", "eb", "fc"), classes_of(data), "RUN")
    assert same(found, data) and said == ""


def test_a_class_that_is_gone_is_named() -> None:
    with pytest.raises(InputError) as raised:
        as_recorded(letters("adg", "b", "ch"), classes_of(letters("adg", "be", "cf")), "RUN")
    assert str(raised.value) == (
        "Class 'e' of the validation split of RUN is not in letters any more (2 such classes); bring it back, or name "
        "another data set by --dataset."
    )


def test_splits_of_anybodys_are_refused() -> None:
    class Own:
        def __init__(self, data: Data[Split]) -> None:
            self.train, self.validation, self.test = data.train, data.validation, data.test

    own = Own(letters("adg", "", "cf"))
    assert as_recorded(own, classes_of(own), "RUN")[0] is own
    with pytest.raises(InputError, match="Class 'c' is in the training split of Own, and was not when RUN was trained"):
        as_recorded(Own(letters("cdg", "", "af")), classes_of(own), "RUN")
