"""A data set of your own images, in a folder of class folders or in a CSV file of paths and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..disk import expanded
from ..episodes import relabel
from ..errors import InputError
from ._registry import register
from .files.cache import cached, fingerprint
from .files.images import Transform, find_images, load_images
from .files.lists import read_csv
from .splits.class_splits import FRACTIONS, OTHERWISE, by_fractions
from .splits.data import Data, make_data
from .splits.split import Split

SUBFOLDERS = (("train", "training"), ("val", "validation", "valid"), ("test",))


@register("folder")
def folder(
    root: str,
    image_size: int = 84,
    channels: int = 3,
    resample: str = "lanczos",
    fractions: Sequence[float] = FRACTIONS,
    seed: int = 0,
    rotations: str = "none",
    csv: str | None = None,
    crop: float = 1.0,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Data[Split]:
    """Images in class folders.

    Args:
        root: a folder with one folder for each class, which are split by `fractions` and `seed`; or a folder with
            `train`, `val` (optional) and `test`, which hold the class folders.
        image_size: pixels of each side; other than square images are cropped at their centre.
        channels: 3 for colour, 1 for grey.
        resample: how images are resized, see `Transform`.
        fractions: shares of the classes for training, validation and test.
        rotations: rotations of the training images, see `Split`.
        csv: a file of `path,label` lines under `root`, in place of class folders; paths are relative to `root`.
        crop, mean, deviation: see `Transform`. `models.image_options` has the values for a network with weights.

    Raises:
        InputError: no folder, no images, a damaged image (named), too few classes, a class in two splits.
    """
    transform = Transform(image_size, channels, False, resample, crop, tuple(mean), tuple(deviation))
    base = expanded(root)
    if not base.is_dir():
        raise InputError(f"There is no folder {base}.")
    if csv is not None:
        groups = [read_csv(base / csv, base)]
    else:
        groups = [find_images(base / name) if name else ([], []) for name in _subfolders(base)] or [find_images(base)]
    labels = [label for group, _ in groups for label in group]
    paths = [path for _, group in groups for path in group]
    y, names = relabel(labels)
    if len(groups) == 1:
        parts = by_fractions(len(names), fractions, seed, f"The folder {base}")
    else:
        parts = [[names.index(label) for label in sorted(set(group))] for group, _ in groups]
        _check_disjoint(parts, names, base)
    pixels = vars(replace(transform, mean=(), deviation=()))  # the cache holds images that are not normalised
    key = {"fingerprint": fingerprint(paths, base), "root": str(base.resolve()), "transform": pixels}
    x, _ = cached(
        f"folder-{base.resolve().name}",
        key,
        lambda: (load_images(paths, transform), []),
        lambda x, _: transform.made(x, len(paths)),
    )
    options: dict[str, Any] = {
        "root": str(base), "image_size": image_size, "channels": channels, "resample": resample,
        "fractions": tuple(fractions), "seed": seed, "rotations": rotations, "csv": csv,
        "crop": crop, "mean": transform.mean, "deviation": transform.deviation,
    }  # fmt: skip
    remedy = OTHERWISE if len(groups) == 1 else Split.remedy
    classes = [str(name) for name in names]
    return make_data(f"folder {base.name}", x, y, classes, parts, options, rotations, transform, remedy)


def _subfolders(base: Path) -> list[str]:
    """Returns the names of the training, validation (may be "") and test folders, or [] without such a layout."""
    present = {path.name for path in base.iterdir() if path.is_dir()}
    found = [next((name for name in names if name in present), "") for names in SUBFOLDERS]
    return found if found[0] and found[2] else []


def _check_disjoint(parts: list[list[int]], names: list[Any], base: Path) -> None:
    everywhere = [index for part in parts for index in part]
    twice = sorted({names[index] for index in everywhere if everywhere.count(index) > 1})
    if twice:
        raise InputError(
            f"Class '{twice[0]}' is in more than one of the train, val and test folders of {base} ({len(twice)} such "
            "classes); few-shot splits have no class in common. Put all classes into one folder: it is split by class."
        )
