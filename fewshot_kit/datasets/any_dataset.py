"""Turns any `torch.utils.data.Dataset` of `(x, y)` into a data set of few-shot tasks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from ..episodes import relabel
from ..errors import InputError
from .files.images import from_any
from .splits.arrays import check_arrays
from .splits.class_splits import FRACTIONS, OTHERWISE, by_fractions
from .splits.data import Data, make_data
from .splits.split import Split

LABELS = ("targets", "labels", "_labels", "y")  # attributes that hold the labels in torchvision and elsewhere


def from_dataset(
    dataset: Dataset[Any],
    *,
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    name: str | None = None,
    rotations: str = "none",
) -> Data[Split]:
    """Returns a few-shot data set of any Dataset. It reads every example once and splits the classes.

    Labels come from the Dataset's metadata if it has any, so that wrong labels are found before images are decoded.

    Args:
        dataset: a Dataset of `(x, y)`; x is a Pillow image, tensor or array, all of one shape; y is an int or a string.
        fractions: shares of the classes for training, validation and test.
        seed: seed of the split.
        name: the data set's name in messages.
        rotations: rotations of the training images, see `Split`.

    Raises:
        InputError: too few classes, labels that do not match the examples, shapes that differ, NaN values.
    """
    name = name or type(dataset).__name__
    total = len(dataset)  # type: ignore[arg-type]
    if not total:
        raise InputError(f"{name} has no examples.")
    known = labels_of(dataset)
    if known is not None:
        if len(known) != total:
            raise InputError(f"{name} has {total} examples but {len(known)} labels; give one label for each.")
        by_fractions(len(set(known)), fractions, seed, name)
    x, read = _read(dataset, total, name)
    y, classes = relabel(known if known is not None else read)
    check_arrays(x, y, len(classes), name)  # before the split, so that messages have the Dataset's own indices
    parts = by_fractions(len(classes), fractions, seed, name)
    options = {"fractions": tuple(fractions), "seed": seed, "rotations": rotations}
    return make_data(name, x, y, _names(dataset, classes), parts, options, rotations, remedy=OTHERWISE)


def labels_of(dataset: Any) -> list[Hashable] | None:
    """Returns all labels from a Dataset's metadata, without reading an example, or None if it has none."""
    if isinstance(dataset, Subset):
        inner = labels_of(dataset.dataset)
        return None if inner is None else [inner[index] for index in dataset.indices]
    if isinstance(dataset, TensorDataset):
        return _plain(dataset.tensors[1]) if len(dataset.tensors) > 1 else None
    for attribute in LABELS:
        found = getattr(dataset, attribute, None)
        if found is not None and not callable(found) and hasattr(found, "__len__"):
            return _plain(found)
    return None


def _plain(labels: Any) -> list[Hashable]:
    return [_label(label) for label in (labels.tolist() if hasattr(labels, "tolist") else labels)]


def _label(label: Any) -> Hashable:
    label = label.item() if getattr(label, "ndim", None) == 0 else label
    if not isinstance(label, Hashable) or isinstance(label, (tuple, Tensor)):
        raise InputError(f"A label is {label!r}; every example needs one class, an int or a string.")
    return label


def _read(dataset: Any, total: int, name: str) -> tuple[Tensor, list[Hashable]]:
    from tqdm import tqdm

    store: Tensor | None = None
    labels: list[Hashable] = []
    for index in tqdm(range(total), f"reading {name}", leave=False, delay=1, disable=None, unit=" examples"):
        example, label = dataset[index]
        example = from_any(example)
        if store is None:
            store = torch.empty(total, *example.shape, dtype=example.dtype)
        if example.shape != store.shape[1:]:
            raise InputError(
                f"Example {index} of {name} has shape {list(example.shape)}, the first one {list(store.shape[1:])}; "
                "give the Dataset a transform that makes all the same size."
            )
        store[index] = example
        labels.append(_label(label))
    assert store is not None
    return store, labels


def _names(dataset: Any, classes: list[Hashable]) -> list[str]:
    """Returns the Dataset's class names if its labels are indices into them, else the labels as strings."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    given = getattr(dataset, "classes", None)
    if isinstance(given, Sequence) and all(isinstance(label, int) and 0 <= label < len(given) for label in classes):
        return [str(given[label]) for label in classes if isinstance(label, int)]
    return [str(label) for label in classes]
