"""Support sets and examples as people have them -> what a network takes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..datasets.files.images import Transform, find_images, images_at
from ..errors import InputError
from ..seeds import kept_random
from .labels import ONE_EACH, read_labels
from .pictures import Array, is_picture, prepared, stacked, unprepared

KINDS = "tensors, arrays, Pillow images or paths of image files"


def read_support(
    support: Any, transform: Transform | None, channels: int | None
) -> tuple[Tensor, list[Hashable] | Tensor]:
    """A support set of any kind -> examples `[S, ...]` on the CPU, and `S` labels or float targets.

    Args:
        support: `(examples, labels)`, of the kinds that `read_examples` and `read_labels` take; a `Dataset` of
            `(x, y)`; a `DataLoader` of batches of them; or the path of a folder of class folders.
        transform, channels: as in `read_examples`.

    Raises:
        InputError: something else; labels that do not match the examples; what `read_examples` and `read_labels` raise.
    """
    if isinstance(support, str | Path):
        names, paths = find_images(support)
        return read_examples(paths, transform, channels), list[Hashable](names)
    if isinstance(support, Dataset | DataLoader):
        examples, given = _unpacked(support)
        if len(given) < len(examples):
            raise InputError(f"{type(support).__name__} gives no labels; a support set needs (x, y) for each example.")
    elif isinstance(support, tuple | list) and len(support) == 2:
        examples, given = support
    else:
        length = f" of {len(support)}" if isinstance(support, tuple | list) else ""
        raise InputError(
            f"The support set is a {type(support).__name__}{length}; give (examples, labels), a Dataset, a DataLoader "
            "or a folder of class folders."
        )
    labels = read_labels(given)
    x = read_examples(examples, transform, channels)
    if len(x) != len(labels):
        raise InputError(f"{len(x)} examples came with {len(labels)} labels; {ONE_EACH}.")
    return x, labels


def read_examples(x: Any, transform: Transform | None, channels: int | None) -> Tensor:
    """Examples of any kind -> a tensor `[N, ...]` on the CPU, as a network sees them.

    Arrays of images may be `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`, and lists of them need not be of one size.
    Tensors have torch's order, `[N, C, H, W]`.

    With a transform, Pillow images and uint8 images go through it exactly as their files would; but uint8 tensors of
    its channels and size are taken as what `datasets.load_images` made of files, and only normalised. Float images
    whose values all lie in [0, 1] go through it rounded to 8 bits; those that have the network's channels and size
    already are only normalised. Where one float lies outside, all are taken as prepared by the caller and left alone.

    Without a transform, uint8 images are scaled to [0, 1] and floats stay as they are.

    Args:
        x: a tensor, an array or nested lists `[N, ...]`; a list of tensors, arrays, Pillow images or paths of image
            files; one Pillow image; the path of an image or of a folder of images; a `Dataset` or `DataLoader`, whose
            labels are dropped.
        transform: what the network's images go through, where it is known.
        channels: of the images that the network takes (`channels_of`); None where it does not take images, or nobody
            knows: arrays that are not clearly images are then left alone.

    Raises:
        InputError: a tensor `[N, H, W, C]`; images that cannot be read (named); shapes that differ, where no transform
            makes them one; one image where a batch is wanted; float images from 0 to 255; what holds no numbers.
    """
    found = _collected(x)
    return unprepared(found, channels) if transform is None else prepared(found, transform)


def _unpacked(source: Dataset[Any] | DataLoader[Any]) -> tuple[list[Any], list[Any]]:
    """Every example and, where there are any, every label, each read once."""
    batches = isinstance(source, DataLoader)
    rows: Any = source
    if hasattr(source, "__len__") and not isinstance(source, DataLoader | IterableDataset):
        rows = (source[index] for index in range(len(source)))
    examples: list[Any] = []
    labels: list[Any] = []
    with kept_random(torch.device("cpu")):  # a DataLoader draws from the global RNG, and so may a Dataset's transform
        for row in rows:
            if isinstance(row, Mapping) or (isinstance(row, tuple | list) and not row):
                raise InputError(f"{type(source).__name__} gives a {type(row).__name__}; it must give (x, y).")
            x, *rest = row if isinstance(row, tuple | list) else (row,)
            examples += x if batches else [x]
            for y in rest[:1]:
                labels += y if batches else [y]
    return examples, labels


def _collected(x: Any) -> Array | list[Any]:
    """One batch `[N, ...]`; or what makes none: a list of arrays of different shapes, or of Pillow images and paths."""
    if isinstance(x, Dataset | DataLoader):
        x, _ = _unpacked(x)
    elif isinstance(x, str | Path):
        x = images_at(x)
    elif is_picture(x):
        x = [x]
    elif hasattr(x, "__array__") and not isinstance(x, Tensor):
        x = np.asarray(x)
        x = x.tolist() if x.dtype.kind in "UO" else x  # of paths, or of images
    if isinstance(x, Tensor | np.ndarray):
        if not x.ndim:
            raise InputError(f"The examples are one number, {x.item()}; give a batch of them, [N, ...].")
        return _item(x, 0)
    if isinstance(x, bytes | Mapping) or not isinstance(x, Iterable):
        raise InputError(f"Examples cannot be of type {type(x).__name__}; give {KINDS}.")
    given = list(x)
    items = [_item(item, number) for number, item in enumerate(given)]
    if not items:
        raise InputError("There are no examples; give at least one.")
    arrays = [isinstance(item, Tensor | np.ndarray) for item in items]
    if len(set(arrays)) > 1:
        odd = arrays.index(not arrays[0])
        kinds = type(items[odd]).__name__, type(items[0]).__name__
        raise InputError(f"Example {odd} is of type {kinds[0]}, the first one of {kinds[1]}; give all of one kind.")
    if not arrays[0] or len({tuple(item.shape) for item in items}) > 1:
        return items
    batch = stacked(items)
    if batch.dtype == np.float64 and not any(hasattr(item, "dtype") for item in given):  # Python's own numbers
        return batch.astype(torch.empty(0).numpy().dtype)
    return batch


def _item(item: Any, number: int) -> Any:
    """A tensor on the CPU, an array of numbers, a Pillow image or a path."""
    if isinstance(item, str | Path):
        return Path(item)
    if isinstance(item, Tensor):
        item = item.detach().cpu()
        return item.clone() if item.is_inference() else item
    if is_picture(item):
        return item
    try:
        array = np.asarray(item)
    except ValueError:
        raise InputError(f"Example {number} has rows of different lengths; give arrays of one shape.") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"Example {number} is of type {type(item).__name__}, which holds no numbers; give {KINDS}.")
    if array.dtype == np.uint16:  # images of 16 bits become ones of 8, as their files do
        return (array // 257).astype(np.uint8)
    return array
