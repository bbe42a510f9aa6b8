"""Layouts of image files on disk. They list the images of a data set and their classes, and read each image."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from .archives import Listed, in_tar
from .cache import fingerprint
from .images import class_name, find_images
from .lists import read_csv

PARTS = ("train", "val", "test")
FOLDERS = (("train", "meta-train"), ("val", "validation", "valid", "meta-val"), ("test", "meta-test"))


class Part(NamedTuple):
    """One split before decoding: its place for messages, a hash that changes with its files, and its images."""

    place: Path
    stamp: str
    listed: Callable[[], Listed]


Layout = Callable[[Path], Sequence[Part | None]]  # takes a folder, returns train, validation and test; None if missing


def split_folders(base: Path) -> list[Part | None]:
    """Finds the layout `train/CLASS/IMAGE`, with `val` and `test` alike, or a tar archive of each, read in place.

    Raises:
        InputError: a class folder without images.
    """
    return [_folder_or_archive(base, names) for names in FOLDERS]


def _folder_or_archive(base: Path, names: Sequence[str]) -> Part | None:
    for name in names:
        if (base / name).is_dir():
            return files(base / name, *class_folders(base / name))
    for name in names:
        archive = base / f"{name}.tar"
        if archive.is_file():
            return Part(archive, fingerprint([archive], base), functools.partial(in_tar, archive))
    return None


def split_csv(base: Path) -> list[Part | None]:
    """Finds the layout `images/IMAGE` with `train.csv`, `val.csv` and `test.csv`, whose lines are `filename,label`.

    Raises:
        InputError: as `read_csv` does.
    """
    images = base / "images"
    lists = [base / f"{name}.csv" for name in PARTS]
    return [files(one, *read_csv(one, images)) if one.is_file() and images.is_dir() else None for one in lists]


def class_folders(folder: Path) -> tuple[list[str], list[Path]]:
    """Returns the class name and the path of every image in a folder of class folders.

    Raises:
        InputError: a class folder without images, or no images at all.
    """
    labels, paths = find_images(folder)
    for child in sorted({class_name(path.name) for path in folder.iterdir() if path.is_dir()} - set(labels)):
        if not child.startswith("."):
            raise InputError(f"The class folder {folder / child} has no images; put them there, or remove it.")
    return labels, paths


def files(place: Path, labels: Sequence[str], paths: Sequence[Path]) -> Part:
    """Returns the split of these image files."""
    ordered = sorted(zip(labels, map(str, paths), strict=True))
    named = [label for label, _ in ordered]
    names = [path for _, path in ordered]
    # The labels belong to the hash, because a CSV file's labels can change without the images.
    stamp = f"{fingerprint(names, place)}-{hashlib.sha256(chr(0).join(named).encode()).hexdigest()}"
    return Part(place, stamp, lambda: Listed(named, names, names.__getitem__))
