"""Turns labels of many kinds into plain Python values or float targets."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

ONE_EACH = "give one label for each example"


def read_labels(labels: Any) -> list[Hashable] | Tensor:
    """Reads labels of any kind into `N` plain Python values, or float targets `[N]` or `[N, ...]` of a regression.

    Args:
        labels: a list, tuple, generator, tensor, array or Series of ints, strings, bools, numpy values or 0-d tensors;
            `[N, 1]` is taken as `[N]`. Equal values are one class, whatever their types. Numbers are targets of a
            regression if any of them is a float.

    Raises:
        InputError: a single string, a mapping or a set; missing values (None, NaN); infinite targets; one-hot rows;
            several labels for an example; a label that cannot be hashed.
    """
    if isinstance(labels, Tensor) and labels.is_meta:
        raise InputError("The labels are on the device 'meta', which holds no values; give some that have.")
    if hasattr(labels, "__array__") and not isinstance(labels, Tensor):  # arrays, Series and frames
        labels = np.asarray(labels)
        if labels.dtype.kind == "f":
            labels = torch.from_numpy(labels.astype(np.float64)).to(torch.get_default_dtype())
    if isinstance(labels, Tensor) and labels.is_floating_point() and labels.dim():
        return _targets(labels.detach().cpu())
    labels = labels.tolist() if hasattr(labels, "tolist") else labels
    if isinstance(labels, str | bytes | Mapping | Set) or not isinstance(labels, Iterable):
        raise InputError(f"The labels are {_short(labels)}, of type {type(labels).__name__}; {ONE_EACH}, in a list.")
    plain = [_plain(label) for label in labels]
    if any(isinstance(label, list) for label in plain):
        rows = _rows(plain)
        if isinstance(rows, Tensor):
            return rows
        plain = rows
    missing = [number for number, label in enumerate(plain) if _is_missing(label)]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(plain)} labels are missing (label {missing[0]} is {plain[missing[0]]!r}); "
            "give them, or leave these examples out."
        )
    if any(isinstance(label, float) for label in plain) and all(isinstance(label, int | float) for label in plain):
        return _targets(torch.tensor(plain, dtype=torch.get_default_dtype()))
    for number, label in enumerate(plain):
        if not isinstance(label, Hashable):
            raise InputError(
                f"Label {number} is {_short(label)}, of type {type(label).__name__}; give ints or strings, or float "
                "targets for a regression."
            )
    return plain


def _plain(label: Any) -> Any:
    """Returns a numpy or torch value as a Python value, and an array or tensor of several as nested lists."""
    label = label.tolist() if hasattr(label, "tolist") else label
    return [_plain(value) for value in label] if isinstance(label, list) else label


def _rows(plain: list[Any]) -> list[Any] | Tensor:
    """Returns labels `[N, 1]` as `[N]`, or float targets `[N, ...]`. Some of the labels are lists."""
    if all(isinstance(row, list) and len(row) == 1 and not isinstance(row[0], float | list) for row in plain):
        return [row[0] for row in plain]
    try:
        values = torch.tensor(plain)
    except (TypeError, ValueError):
        odd = next(number for number, row in enumerate(plain) if isinstance(row, list))
        raise InputError(f"Label {odd} is the list {_short(plain[odd])}; {ONE_EACH}, an int or a string.") from None
    if values.is_floating_point():
        return _targets(values)
    _refuse_one_hot(values)
    raise InputError(f"The labels have shape {list(values.shape)}; {ONE_EACH}, shape [{len(values)}].")


def _targets(values: Tensor) -> Tensor:
    bad = (~values.flatten(1).isfinite()).any(1) if values.dim() > 1 else ~values.isfinite()
    if bad.any():
        raise InputError(
            f"{int(bad.sum())} of the {len(values)} targets are NaN or infinite (the first is number "
            f"{int(bad.nonzero()[0])}); leave these examples out."
        )
    _refuse_one_hot(values)
    return values


def _refuse_one_hot(values: Tensor) -> None:
    rows, shape = values.dim() == 2 and len(values), list(values.shape)
    if rows and shape[1] > 1 and bool(((values == 0) | (values == 1)).all()) and bool((values.sum(1) == 1).all()):
        raise InputError(f"The labels {shape} are one-hot rows; give the classes' numbers, labels.argmax(1).")


def _is_missing(label: Any) -> bool:
    return label is None or type(label).__name__ == "NAType" or (isinstance(label, float) and label != label)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
