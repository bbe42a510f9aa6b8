"""Data sets with published splits: found in their usual layouts, checked by content, decoded once."""

from __future__ import annotations

import functools
import hashlib
import itertools
import mmap
import os
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..episodes import relabel
from ..errors import InputError, first_line
from .files.cache import Named, cached, fingerprint
from .files.decoding import decode_all
from .files.images import SUFFIXES, Transform, decode, find_images
from .files.roots import find_root
from .folder import read_csv
from .splits.data import Data
from .splits.split import Split

WORDS = ("training", "validation", "test")
PARTS = ("train", "val", "test")
FOLDERS = (("train", "meta-train"), ("val", "validation", "valid", "meta-val"), ("test", "meta-test"))
PICKLES = frozenset({".pkl", ".pickle", ".npz"})
PICKLE = (
    "opening a pickle can run any code, so that none is read: in a script of your own write its images to "
    "train/CLASS/NUMBER.png, val and test likewise, with class names that differ between the splits, as train17"
)


@dataclass(frozen=True)
class Published:
    """What is known of a data set before its files are seen.

    Args:
        name: as it is registered.
        title: as papers write it.
        folder: where it is expected, under the root; found in any case, with `-`, `_` or neither.
        also: other names of that folder.
        classes: of the training, validation and test split.
        images: of the whole data set; fewer are a subset, and what comes of them is marked as one.
        layout, source: what messages say of where its files belong, and who published it.
    """

    name: str
    title: str
    folder: str
    also: tuple[str, ...]
    classes: tuple[int, int, int]
    images: int
    layout: str
    source: str


class Listed(NamedTuple):
    """Every image of a split: its label and its name, in their order, and what reads it by number."""

    labels: list[str]
    names: list[str]
    read: Callable[[int], Path | str | bytes]


class Part(NamedTuple):
    """One split before it is decoded: what messages call it, a hash that changes with its files, and its images."""

    place: Path
    stamp: str
    listed: Callable[[], Listed]


Layout = Callable[[Path], Sequence[Part | None]]  # a folder -> training, validation and test; None for what is missing


def load(
    published: Published, root: str | Path | None, transform: Transform, layouts: Sequence[Layout], **options: Any
) -> Data[Split]:
    """The data set in the first of these layouts that is found, from the cache where it was decoded before.

    Images are ordered by class and file name, so that a seed draws the same episodes from every layout.

    Args:
        root: see `find_root`; the data set's own folder will do as well.
        options: of the registered function, for the record.

    Raises:
        InputError: nothing there, or not all of it; a wrong number of classes; a class in two splits; more images
            than were published; a damaged file (named).
    """
    base, parts = _find(published, find_root(root), layouts)

    @functools.cache
    def listed() -> list[Listed]:  # not called where everything is in the cache: listing a long archive takes seconds
        found = [part.listed() for part in parts]
        _check(published, base, parts, [one.labels for one in found])
        return found

    def decoded(number: int) -> Named:
        labels, names, read = listed()[number]

        def one(index: int) -> np.ndarray:
            return decode(read(index), transform, names[index])

        what = f"decoding {published.title}, {PARTS[number]}"
        return decode_all(range(len(labels)), one, transform.shape, what), labels

    found = []
    pixels = vars(replace(transform, mean=(), deviation=()))  # these come after the cache
    for number, part in enumerate(parts):
        key = {"source": str(part.place.resolve()), "fingerprint": part.stamp, "transform": pixels}
        name = f"{published.name}-{PARTS[number]}"
        found.append(cached(name, key, functools.partial(decoded, number)))
    _check(published, base, parts, [labels for _, labels in found])

    count = sum(len(labels) for _, labels in found)
    subset = f" (a subset: {count} of {published.images} images)" if count < published.images else ""
    splits = []
    for word, (x, labels) in zip(WORDS, found, strict=True):
        y, classes = relabel(labels)
        title = f"the {word} split of {published.name}{subset}"
        splits.append(Split(x, y, [str(name) for name in classes], title, transform=transform))
    train, validation, test = splits
    options |= {name: value for name, value in vars(transform).items() if name != "invert"}
    return Data(published.name + subset, train, validation, test, options)


def split_folders(base: Path) -> list[Part | None]:
    """The layout `train/CLASS/IMAGE`, `val` and `test` alike; or of each of these a tar archive, read in place.

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
    """The layout `images/IMAGE` with `train.csv`, `val.csv` and `test.csv`, whose lines are `filename,label`.

    Raises:
        InputError: as `read_csv` does.
    """
    images = base / "images"
    lists = [base / f"{name}.csv" for name in PARTS]
    return [files(one, *read_csv(one, images)) if one.is_file() and images.is_dir() else None for one in lists]


def class_folders(folder: Path) -> tuple[list[str], list[Path]]:
    """The class name and the path of every image in a folder of class folders.

    Raises:
        InputError: a class folder without images, or no images at all.
    """
    labels, paths = find_images(folder)
    for child in sorted({path.name for path in folder.iterdir() if path.is_dir()} - set(labels)):
        if not child.startswith("."):
            raise InputError(f"The class folder {folder / child} has no images; put them there, or remove it.")
    return labels, paths


def files(place: Path, labels: Sequence[str], paths: Sequence[Path]) -> Part:
    """A split in image files."""
    ordered = sorted(zip(labels, map(str, paths), strict=True))
    named = [label for label, _ in ordered]
    names = [path for _, path in ordered]
    # The labels as well: those of a list can change while the images stay.
    stamp = f"{fingerprint(names, place)}-{hashlib.sha256(chr(0).join(named).encode()).hexdigest()}"
    return Part(place, stamp, lambda: Listed(named, names, names.__getitem__))


def _in_archive(archive: Path) -> Listed:
    """The images of a tar archive. Their classes are the folders they lie in.

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
    # tarfile takes a header that it cannot read, or none at all, for the end; the end is a block of zeros.
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


def _find(published: Published, root: Path, layouts: Sequence[Layout]) -> tuple[Path, list[Part]]:
    """The folder that holds the data set, and its three splits."""
    problems: list[tuple[str, Path]] = []
    for base in _bases(published, root):
        for layout in layouts:
            parts = layout(base)
            found = [part for part in parts if part is not None]
            if len(found) == len(parts):
                return base, found
            if found:
                missing = [name for name, part in zip(PARTS, parts, strict=True) if part is None]
                problems.append((f"{base} has no {' and no '.join(missing)}", base))
        pickles = sorted(path.name for path in base.iterdir() if path.suffix in PICKLES and "train" in path.name)
        if pickles:
            problems.append((f"{base} holds {pickles[0]}, but {PICKLE}", base))
        elif base != root:
            problems.append((f"nothing in {base} is laid out so", base))
    why, place = problems[0] if problems else (f"there is no folder {published.folder}", root / published.folder)
    raise InputError(
        f"{published.title} is not in {root} ({why}): put {published.layout} into {place} (published by "
        f"{published.source}), or set FEWSHOT_KIT_DATA to the folder that holds {published.folder}, or use --dataset "
        "glyphs, which needs no files."
    )


def _bases(published: Published, root: Path) -> Iterator[Path]:
    """Folders that may hold the data set: those of its names under the root, then the root itself."""
    if not root.is_dir():
        return
    known = {_folded(name) for name in (published.folder, *published.also)}
    yield from sorted(path for path in root.iterdir() if _folded(path.name) in known and path.is_dir())
    yield root


def _folded(name: str) -> str:
    return re.sub("[-_ ]", "", name.lower())


def _check(published: Published, base: Path, parts: Sequence[Part], labels: Sequence[Sequence[str]]) -> None:
    """Raise `InputError` where these are not the published splits, as far as numbers can tell."""
    splits = [set(some) for some in labels]
    for word, part, split, expected in zip(WORDS, parts, splits, published.classes, strict=True):
        if len(split) != expected:
            counts = "{}, {} and {}".format(*published.classes)
            raise InputError(
                f"{part.place} has {len(split)} classes where the {word} split of {published.title} has {expected} "
                f"(its splits have {counts}); put all of them there and no others, or use --dataset folder for classes "
                "of your own."
            )
    for (word, split), (other_word, other) in itertools.combinations(zip(WORDS, splits, strict=True), 2):
        if split & other:
            raise InputError(
                f"Class '{min(split & other)}' is in the {word} and in the {other_word} split of {published.title} in "
                f"{base} ({len(split & other)} such classes); few-shot splits have no class in common."
            )
    if sum(map(len, labels)) > published.images:
        most, count = Counter(itertools.chain(*labels)).most_common(1)[0]
        raise InputError(
            f"{base} has {sum(map(len, labels))} images, more than the {published.images} of {published.title} (the "
            f"largest class is '{most}' with {count}); remove what does not belong to it."
        )
