"""Turns support sets and examples of many kinds into tensors that a network takes."""

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
    """Reads a support set of any kind into examples `[S, ...]` on the CPU, and `S` labels or float targets.

    Args:
        support: `(examples, labels)` as `read_examples` and `read_labels` take them; a `Dataset` of `(x, y)`; a
            `DataLoader` of batches of them; or the path of a folder of class folders.
        transform, channels: as in `read_examples`.

    Raises:
        InputError: another kind of support set; labels that do not match the examples; as `read_examples` and
            `read_labels` do.
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
    """Reads examples of any kind into a tensor `[N, ...]` on the CPU, as a network takes them.

    Arrays of images may be `[N, H, W]`, `[N, H, W, C]` or `[N, C, H, W]`, and a list may hold images of several sizes.
    Tensors have torch's order, `[N, C, H, W]`.

    A transform treats Pillow images and uint8 images exactly as it treats their files. It only normalises uint8 tensors
    of its own channels and size, because `datasets.load_images` gives such tensors. Float images with all values in
    [0, 1] are rounded to 8 bits and transformed; those of the transform's channels and size are only normalised. If any
    float lies outside of [0, 1], the caller has prepared the images, and all of them are left alone.

    Without a transform, uint8 images are scaled to [0, 1], and floats stay as they are.

    Args:
        x: a tensor, an array or nested lists `[N, ...]`; a list of tensors, arrays, Pillow images or paths of image
            files; one Pillow image; the path of an image or of a folder of images; a `Dataset` or `DataLoader`, whose
            labels are dropped.
        transform: the transform of the network's images, if it is known.
        channels: channels of the images that the network takes (`channels_of`), or None if it takes no images or they
            are unknown. With None, arrays that are not clearly images are left alone.

    Raises:
        InputError: a tensor `[N, H, W, C]`; images that cannot be read (named); shapes that differ without a transform
            to resize them; one image in place of a batch; float images from 0 to 255; examples without numbers.
    """
    found = _collected(x)
    return unprepared(found, channels) if transform is None else prepared(found, transform)


def _unpacked(source: Dataset[Any] | DataLoader[Any]) -> tuple[list[Any], list[Any]]:
    """Returns every example and every label that there is, each read once."""
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
    """Returns one batch `[N, ...]`, or a list of arrays of several shapes, or a list of Pillow images and paths."""
    if isinstance(x, Dataset | DataLoader):
        x, _ = _unpacked(x)
    elif isinstance(x, str | Path):
        x = images_at(x)
    elif is_picture(x):
        x = [x]
    elif hasattr(x, "__array__") and not isinstance(x, Tensor):
        x = np.asarray(x)
        x = x.tolist() if x.dtype.kind in "UO" else x  # an array of paths or of images
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
    """Returns one example as a tensor on the CPU, an array of numbers, a Pillow image or a path."""
    if isinstance(item, str | Path):
        return Path(item)
    if isinstance(item, Tensor):
        if item.is_meta:
            raise InputError(
                f"Example {number} is on the device 'meta', which holds no values; give one that has some."
            )
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
    if array.dtype == np.uint16:  # 16-bit images become 8-bit ones, as their files do
        return (array // 257).astype(np.uint8)
    return array
