"""Splits a data set that has changed since a run was trained into the classes that the run recorded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...errors import InputError
from .class_splits import with_turns
from .contract import DataSet, LabelledSplit
from .data import Data
from .split import Split

AnyData = TypeVar("AnyData", bound=DataSet)
WORDS = {"train": "training", "validation": "validation", "test": "test"}


def classes_of(data: DataSet) -> dict[str, list[str]]:
    """The class names of the splits that have any, by `"train"`, `"validation"` and `"test"`."""
    splits = {name: getattr(data, name) for name in WORDS}
    return {
        name: [str(label) for label in split.classes]
        for name, split in splits.items()
        if isinstance(split, LabelledSplit)
    }


def as_recorded(data: AnyData, recorded: Mapping[str, Sequence[str]], run: str | Path) -> tuple[AnyData, str]:
    """A data set with its classes split as a run recorded it.

    A data set that is split by fractions is split otherwise once it has grown, and classes that the run was trained on
    would be tested on. Classes that the run does not know are left out.

    Args:
        data: the data set as it is now.
        recorded: what `classes_of` gave when the run was trained.
        run: the run folder, for messages.

    Returns:
        The data set, the same object where nothing changed; and what changed in words, or "".

    Raises:
        InputError: a class is not there any more; or the splits are not the kit's, and cannot be split otherwise.
    """
    now = {name: _upright(labels) for name, labels in classes_of(data).items()}
    then = {name: _upright(recorded[name]) for name in WORDS if name in recorded}
    if now == then or not now or not then:
        return data, ""
    before = {label: name for name, labels in then.items() for label in labels}
    there = {label: name for name, labels in now.items() for label in labels}
    gone = [label for label in before if label not in there]
    if gone:
        raise InputError(
            f"Class '{gone[0]}' of the {WORDS[before[gone[0]]]} split of {run} is not in {_name(data)} any more "
            f"({len(gone)} such classes); bring it back, or name another data set by --dataset."
        )
    new = [label for label in there if label not in before]
    moved = [label for label, name in there.items() if before.get(label, name) != name]
    if not isinstance(data, Data) or not all(isinstance(getattr(data, name), Split | None) for name in WORDS):
        label = (moved or new or list(there))[0]
        raise InputError(
            f"Class '{label}' is in the {WORDS[there[label]]} split of {_name(data)}, and was not when {run} was "
            "trained; give the data set as it was."
        )
    parts: dict[str, Any] = {name: _part(data, name, then[name]) if name in then else None for name in WORDS}
    what = ""
    if new:
        what = f"{len(new)} classes that {run} does not know ({_some(new)}): they are left out"
    elif moved:
        what = f"{len(moved)} classes in other splits than when {run} was trained ({_some(moved)}): they are put back"
    said = what and f"{data.name} has {what}, and its classes are split as they were."
    return dataclasses.replace(data, **parts), said


def _part(data: Data[Split], name: str, labels: list[str]) -> Split:
    """The split of these classes, class by class, with the images of a class in their order."""
    old = getattr(data, name)
    index = {label: number for number, label in enumerate(labels)}
    x, y = [], []
    for split in (data.train, data.validation, data.test):
        if split is None:
            continue
        number = torch.tensor([index.get(own, -1) for own in _upright(split.classes)])
        rows = (number[split.y] >= 0).nonzero().flatten()
        if len(rows):
            x.append(split.x.index_select(0, rows.to(split.x.device)))
            y.append(number[split.y[rows]])
    order = torch.cat(y).argsort(stable=True)
    title = old.name if old is not None else f"the {WORDS[name]} split of {data.name}"
    rotations = old.rotations if old is not None else "none"
    made = Split(torch.cat(x)[order], torch.cat(y)[order], labels, title, rotations, data.transform)
    made.remedy = data.train.remedy
    return made


def _upright(labels: Sequence[str]) -> list[str]:
    """The classes less those that are others turned, where there are any (`Split`'s rotations)."""
    own = list(labels[: len(labels) // 4])
    return own if own and list(labels) == with_turns(own) else list(labels)


def _name(data: DataSet) -> str:
    return data.name if isinstance(data, Data) else type(data).__name__


def _some(labels: list[str]) -> str:
    return ", ".join(map(repr, labels[:3])) + (", ..." if len(labels) > 3 else "")
