"""Loads data sets with published splits: it finds their usual layouts (`files.layouts`), checks and decodes them."""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..episodes import relabel
from ..errors import InputError
from .files.archives import Listed
from .files.cache import Named, cached
from .files.decoding import decode_all
from .files.images import Transform, decode
from .files.layouts import PARTS, Layout, Part
from .files.roots import find_root
from .splits.data import Data
from .splits.split import Split

WORDS = ("training", "validation", "test")
PICKLES = frozenset({".pkl", ".pickle", ".npz"})
PICKLE = (
    "opening a pickle can run any code, so that none is read: in a script of your own write its images to "
    "train/CLASS/NUMBER.png, val and test likewise, with class names that differ between the splits, as train17"
)


@dataclass(frozen=True)
class Published:
    """The published facts about a data set.

    Args:
        name: the registered name.
        title: the name in papers.
        folder: its folder's name under the root; upper case, `-` and `_` do not matter.
        also: other names of that folder.
        classes: numbers of classes of the training, validation and test split.
        images: number of all images; a data set with fewer is named as a subset.
        layout, source: the places of its files and its publisher, for messages.
    """

    name: str
    title: str
    folder: str
    also: tuple[str, ...]
    classes: tuple[int, int, int]
    images: int
    layout: str
    source: str


def load(
    published: Published, root: str | Path | None, transform: Transform, layouts: Sequence[Layout], **options: Any
) -> Data[Split]:
    """Loads the data set from the first layout that is found, or from the cache if it was decoded before.

    Images are sorted by class and file name, so that a seed draws the same episodes from every layout.

    Args:
        root: see `find_root`; it may be the data set's own folder.
        options: the registered function's options, to be recorded.

    Raises:
        InputError: missing or incomplete files; a wrong number of classes; a class in two splits; more images than
            were published; a damaged file (named).
    """
    base, parts = _find(published, find_root(root), layouts)

    @functools.cache
    def listed() -> list[Listed]:  # not called if all is cached: listing an archive takes seconds
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
    pixels = vars(replace(transform, mean=(), deviation=()))  # the cache holds images that are not normalised
    for number, part in enumerate(parts):
        key = {"source": str(part.place.resolve()), "fingerprint": part.stamp, "transform": pixels}
        name = f"{published.name}-{PARTS[number]}"
        found.append(
            cached(name, key, functools.partial(decoded, number), lambda x, names: transform.made(x, len(names)))
        )
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


def _find(published: Published, root: Path, layouts: Sequence[Layout]) -> tuple[Path, list[Part]]:
    """Returns the folder that holds the data set, and its three splits."""
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
    """Yields folders that may hold the data set: those with its names under the root, then the root itself."""
    if not root.is_dir():
        return
    known = {_folded(name) for name in (published.folder, *published.also)}
    yield from sorted(path for path in root.iterdir() if _folded(path.name) in known and path.is_dir())
    yield root


def _folded(name: str) -> str:
    return re.sub("[-_ ]", "", name.lower())


def _check(published: Published, base: Path, parts: Sequence[Part], labels: Sequence[Sequence[str]]) -> None:
    """Raises `InputError` for wrong numbers of classes, a class in two splits, or more images than were published."""
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
