"""CUB: Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD Birds-200-2011 Dataset", Caltech, 2011. The
split is that of Chen et al., "A Closer Look at Few-shot Classification", ICLR 2019."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, brief
from ._registry import register
from .files.images import Transform
from .files.layouts import PARTS, Part, class_folders, files
from .files.lists import read_rows, read_text
from .published import Published, load
from .splits.data import Data
from .splits.split import Split

CLASSES = 200
SPLITS = ("chen", "files")

CUB = Published(
    name="cub",
    title="CUB-200-2011",
    folder="CUB_200_2011",
    also=("cub",),
    classes=(100, 50, 50),
    images=11788,
    layout="images.txt and the class folders images/001.Black_footed_Albatross/*.jpg and so on",
    source='Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", California Institute of Technology, 2011',
)


@register("cub")
def cub(
    root: str | None = None,
    image_size: int = 84,
    channels: int = 3,
    resample: str = "lanczos",
    split: str = "chen",
    crop: float = 1.0,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Data[Split]:
    """Photographs of 200 species of birds, split 100 / 50 / 50 by the rule of Chen et al.

    Args:
        root: the folder that holds `CUB_200_2011/`, or that folder itself; by default `$FEWSHOT_KIT_DATA`, else the
            user's data folder. `CUB_200_2011/` has `images/001.Black_footed_Albatross/*.jpg` and so on, and
            `images.txt`, whose images must all exist.
        image_size, channels, resample, crop, mean, deviation: as for `mini_imagenet`. Images are not cropped to their
            bounding boxes.
        split: `"chen"` sorts the classes by name: every second one trains, and the others validate and test in turn.
            `"files"` takes the classes from `split/train.csv`, `split/val.csv` and `split/test.csv`, whose lines are
            `filename,label`.

    Raises:
        InputError: an unknown split; as `published.load` does; an image of `images.txt` that does not exist.
    """
    if split not in SPLITS:
        raise InputError(f"Unknown cub split '{split}'; it is one of {', '.join(SPLITS)}.")
    transform = Transform(image_size, channels, False, resample, crop, tuple(mean), tuple(deviation))
    return load(CUB, root, transform, [functools.partial(_birds, split=split)], split=split)


def _birds(base: Path, split: str) -> list[Part | None]:
    images = base / "images"
    if not (base / "images.txt").is_file() and not any(images.glob("001.*")):
        return [None, None, None]
    _check_listed(base / "images.txt", images)
    labels, paths = class_folders(images)
    names = sorted(set(labels))
    if len(names) != CLASSES:
        raise InputError(f"{images} has {len(names)} class folders where CUB-200-2011 has {CLASSES}; unpack it again.")
    if split == "chen":
        groups = [names[0::2], names[1::4], names[3::4]]
    else:
        groups = [_classes_of(base / "split" / f"{name}.csv", images, names) for name in PARTS]
    parts: list[Part | None] = []
    for group in map(set, groups):
        rows = [row for row, label in enumerate(labels) if label in group]
        parts.append(files(images, [labels[row] for row in rows], [paths[row] for row in rows]))
    return parts


def _check_listed(file: Path, images: Path) -> None:
    """Raises `InputError` if images are missing. A line of `images.txt` is a number and a path."""
    if not file.is_file():
        return
    listed = [line.split()[-1] for line in read_text(file).splitlines() if line.strip()]
    gone = [name for name in listed if not os.path.isfile(images / name)]
    if gone:
        raise InputError(
            f"{file} names {len(listed)} images, and {len(gone)} of them are not in {images} (the first is "
            f"{brief(gone[0])}); unpack the archive again, or take their lines out for a subset."
        )


def _classes_of(file: Path, images: Path, names: list[str]) -> list[str]:
    """Returns the classes in the second column of a CSV file with a header."""
    if not file.is_file():
        raise InputError(f"There is no file {file}; split='files' needs it, split='chen' does not.")
    found = {fields[1].strip() for _, fields in list(read_rows(file))[1:] if len(fields) > 1}
    unknown = sorted(found.difference(names))
    if unknown:
        raise InputError(
            f"{file} names class '{brief(unknown[0])}', but there is no folder {brief(images / unknown[0])}."
        )
    return sorted(found)
