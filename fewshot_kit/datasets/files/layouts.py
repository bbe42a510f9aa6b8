"""Layouts of image files on disk. They list the images of a data set and their classes, and read each image."""

from __future__ import annotations

import csv
import functools
import hashlib
import mmap
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError, first_line
from .cache import fingerprint
from .images import SUFFIXES, find_images

PARTS = ("train", "val", "test")
FOLDERS = (("train", "meta-train"), ("val", "validation", "valid", "meta-val"), ("test", "meta-test"))


class Listed(NamedTuple):
    """The labels and names of a split's images, in order, and a function that reads an image by index."""

    labels: list[str]
    names: list[str]
    read: Callable[[int], Path | str | bytes]


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
            return Part(archive, fingerprint([archive], base), functools.partial(_in_archive, archive))
    return None


def split_csv(base: Path) -> list[Part | None]:
    """Finds the layout `images/IMAGE` with `train.csv`, `val.csv` and `test.csv`, whose lines are `filename,label`.

    Raises:
        InputError: as `read_csv` does.
    """
    images = base / "images"
    lists = [base / f"{name}.csv" for name in PARTS]
    return [files(one, *read_csv(one, images)) if one.is_file() and images.is_dir() else None for one in lists]


def read_csv(file: Path, base: Path) -> tuple[list[str], list[Path]]:
    """Reads labels and paths from lines of `path,label`. A first line that names no file is the header.

    Raises:
        InputError: no such file; a line without two columns; a path that does not exist.
    """
    if not file.is_file():
        raise InputError(f"There is no file {file}.")
    labels, paths = [], []
    with file.open(newline="", encoding="utf-8-sig") as lines:
        for number, line in enumerate(csv.reader(lines), 1):
            if not line:
                continue
            if len(line) < 2:
                raise InputError(f"Line {number} of {file} is '{line[0]}'; it must be path,label.")
            path = base / line[0].strip()
            if path.is_file():
                labels.append(line[1].strip())
                paths.append(path)
            elif number > 1:
                raise InputError(f"Line {number} of {file} names {path}, which is not there.")
    if not paths:
        raise InputError(f"{file} names no images; its lines must be path,label, with paths relative to {base}.")
    return labels, paths


def class_folders(folder: Path) -> tuple[list[str], list[Path]]:
    """Returns the class name and the path of every image in a folder of class folders.

    Raises:
        InputError: a class folder without images, or no images at all.
    """
    labels, paths = find_images(folder)
    for child in sorted({path.name for path in folder.iterdir() if path.is_dir()} - set(labels)):
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


def _in_archive(archive: Path) -> Listed:
    """Lists the images of a tar archive. Their classes are their folders.

    Raises:
        InputError: no tar archive; a compressed, damaged or truncated one; no images in it.
    """
    try:
        with tarfile.open(archive, "r:") as opened:
            members = [member for member in opened if member.isreg() and _is_image(member.name)]
            end = opened.offset
    except (tarfile.TarError, OSError) as error:
        raise InputError(
            f"{archive} is no whole, uncompressed tar archive ({first_line(error)}); fetch or make it again."
        ) from None
    if not members:
        raise InputError(f"{archive} has no images in class folders; its members must be CLASS/IMAGE.jpg.")
    with archive.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # tarfile takes an unreadable or missing header for the archive's end. The real end is a block of zeros.
    if content[end : end + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
        raise InputError(f"{archive} is damaged or cut off at byte {end}; fetch or make it again.")
    members.sort(key=lambda member: member.name.split("/")[-2:])

    def read(index: int) -> bytes:
        member = members[index]
        return content[member.offset_data : member.offset_data + member.size]

    names = [f"{member.name} in {archive}" for member in members]
    return Listed([member.name.split("/")[-2] for member in members], names, read)


def _is_image(member: str) -> bool:
    folder, _, name = member.rpartition("/")
    return bool(folder) and not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
