"""Loads Omniglot's files: it finds folders or archives in the usual places, checks and decodes them."""

from __future__ import annotations

import contextlib
import glob
import io
import itertools
import os
import re
import shutil
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from ... import compat
from ...errors import InputError, first_line
from .archives import opened_zip, read_member
from .cache import Named, cached, fingerprint
from .decoding import decode_all
from .images import Transform, decode
from .roots import find_root

CHARACTERS = {"images_background": 964, "images_evaluation": 659}
DRAWINGS = 20
FUTURAMA = 26
DRAWING = re.compile(r"(?:^|/)([^/]+)/(character\d{1,4})/([^./][^/]*\.png)$")

Drawings = dict[str, list[str]]  # files by "Alphabet/characterNN", both sorted


def sources(part: str, root: Path) -> list[Path]:
    """Returns the existing folders and archives under `root` that may hold this part of Omniglot."""
    places = [folder / name for folder in (root / "omniglot-py", root) for name in (part, f"{part}.zip")]
    return [place for place in places if place.exists()]


def load(
    part: str, root: str | Path | None, transform: Transform, download: bool, alphabet: str | None = None
) -> Named:
    """Loads one part of Omniglot, or one alphabet of it.

    Args:
        part: `"images_background"` or `"images_evaluation"`.
        root: see `find_root`.
        download: download the part if it is missing.

    Returns:
        uint8 `[characters * 20, 1, H, W]`, character by character, and the characters' names.

    Raises:
        InputError: missing files that cannot be downloaded; missing characters or drawings; a damaged file.
    """
    folder = find_root(root)
    if not sources(part, folder):
        if not download:
            raise InputError(_absent(part, folder, "download is off"))
        fetch(part, folder)
    problems = []
    for source in sources(part, folder):
        try:
            return _from_source(source, part, transform, alphabet)
        except _Incomplete as problem:
            problems.append(problem)
    raise InputError(f"{problems[0]} Remove it to have it downloaded again, or put the complete {part}.zip there.")


def fetch(part: str, folder: Path) -> None:
    """Downloads one part with torchvision (progress bar, checksum) into `folder/omniglot-py`.

    Raises:
        InputError: the download failed; its files are removed.
    """
    datasets = compat.torchvision().datasets
    # torchvision shows its bar even without a terminal.
    seen = contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    try:
        with _undone_on_failure(part, folder), seen:
            folder.mkdir(parents=True, exist_ok=True)
            datasets.Omniglot(str(folder), background=part == "images_background", download=True)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # URLError and timeouts are OSErrors
        raise InputError(_absent(part, folder, f"downloading it failed: {first_line(error)}")) from None


@contextlib.contextmanager
def _undone_on_failure(part: str, folder: Path) -> Iterator[None]:
    """Removes the files of a failed or interrupted download, which would pass for a whole archive."""
    base = folder / "omniglot-py"
    made = [place for place in (base / part, base / f"{part}.zip", base, folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in made:
            with contextlib.suppress(OSError):  # missing files, and folders with other files
                if place.name == part:
                    shutil.rmtree(place)
                elif place.is_dir():
                    place.rmdir()
                else:
                    place.unlink()
        raise


def _absent(part: str, folder: Path, why: str) -> str:
    return (
        f"Omniglot's {part} is not in {folder} ({why}): put {part}.zip from "
        f"https://github.com/brendenlake/omniglot/tree/master/python into {folder / 'omniglot-py'}, "
        "or set FEWSHOT_KIT_DATA to the folder that holds omniglot-py, or use --dataset glyphs, which needs no files."
    )


class _Incomplete(Exception):
    """A source is incomplete; the message says what is missing."""


def _from_source(source: Path, part: str, transform: Transform, alphabet: str | None) -> Named:
    """Returns the drawings of a folder or an archive, from the cache if they are there.

    An archive is listed only for decoding, because listing takes longer than all else at a start.

    Raises:
        _Incomplete: characters or drawings are missing.
    """
    drawings: Drawings = {}
    if source.is_dir():
        names = [file.replace(os.sep, "/") for file in glob.glob("*/character*/*.png", root_dir=source)]
        drawings = _complete(part, source, names, alphabet)
        stamp = fingerprint([os.path.join(source, file) for file in _files(drawings)], source)
    else:
        stamp = fingerprint([source], source.parent)

    def decode_source() -> Named:
        if source.is_dir():
            return _decode_folder(source, drawings, transform), list(drawings)
        with opened_zip(source) as archive:
            inside = _complete(part, source, archive.namelist(), alphabet)
            return _decode_archive(source, archive, inside, transform), list(inside)

    key = {"source": str(source.resolve()), "fingerprint": stamp, "alphabet": alphabet, "transform": vars(transform)}
    count = _expected(part, alphabet)
    return cached(
        f"omniglot-{alphabet or part}",
        key,
        decode_source,
        lambda x, names: len(names) == count and transform.made(x, DRAWINGS * count),
    )


def _complete(part: str, source: Path, files: list[str], alphabet: str | None) -> Drawings:
    """Returns a source's drawings by character. Raises `_Incomplete` if some are missing."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        match = DRAWING.search(file)
        if match and alphabet in (None, match[1]) and not file.startswith("__MACOSX"):
            found[f"{match[1]}/{match[2]}"].append(file)
    drawings = {character: found[character] for character in sorted(found)}
    problem = _incomplete(part, source, drawings, alphabet)
    if problem:
        raise _Incomplete(problem)
    return drawings


def _files(drawings: Drawings) -> list[str]:
    return [file for files in drawings.values() for file in files]


def _expected(part: str, alphabet: str | None) -> int:
    return CHARACTERS[part] if alphabet is None else FUTURAMA


def _incomplete(part: str, source: Path, drawings: Drawings, alphabet: str | None) -> str:
    """Returns a sentence about what is missing, or "" if nothing is."""
    expected = _expected(part, alphabet)
    if len(drawings) != expected:
        gaps = ", ".join(itertools.islice(_gaps(drawings), 3))
        missing = f"; {gaps} is missing" if gaps else ""
        return f"{source} has {len(drawings)} of {alphabet or 'Omniglot'}'s {expected} characters{missing}."
    for character, files in drawings.items():
        if len(files) != DRAWINGS:
            return f"{source} has {len(files)} drawings of {character} where there should be {DRAWINGS}."
    return ""


def _gaps(drawings: Drawings) -> Iterator[str]:
    """Yields the characters that are missing in an alphabet's numbering, which starts at 1."""
    last: dict[str, int] = {}
    for character in drawings:
        alphabet, number = character.rsplit("/character", 1)
        last[alphabet] = max(last.get(alphabet, 0), int(number))
    expected = (f"{name}/character{number:02d}" for name, top in last.items() for number in range(1, top + 1))
    return (character for character in expected if character not in drawings)


def _decode_folder(source: Path, drawings: Drawings, transform: Transform) -> Tensor:
    paths = [os.path.join(source, file) for file in _files(drawings)]
    return decode_all(paths, lambda path: decode(path, transform, path), transform.shape, "decoding Omniglot")


def _decode_archive(source: Path, archive: zipfile.ZipFile, drawings: Drawings, transform: Transform) -> Tensor:
    def one(file: str) -> np.ndarray:
        return decode(read_member(archive, file, source), transform, f"{file} in {source}")

    return decode_all(_files(drawings), one, transform.shape, "decoding Omniglot")
