"""Omniglot's files: found as folders or archives in any of the usual places, checked by content, decoded once."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from torch import Tensor

from .. import compat
from ..errors import InputError, first_line
from .images import Transform, decode, stack_images
from .roots import find_root
from .store import cached, fingerprint

CHARACTERS = {"images_background": 964, "images_evaluation": 659}
DRAWINGS = 20
FUTURAMA = 26
DRAWING = re.compile(r"(?:^|/)([^/]+)/(character\d+)/([^./][^/]*\.png)$")

Drawings = dict[str, list[str]]  # "Alphabet/characterNN" -> its files, both sorted


def sources(part: str, root: Path) -> list[Path]:
    """The folders and archives under `root` that may hold that part of Omniglot and exist."""
    places = [folder / name for folder in (root / "omniglot-py", root) for name in (part, f"{part}.zip")]
    return [place for place in places if place.exists()]


def load(
    part: str, root: str | Path | None, transform: Transform, download: bool, alphabet: str | None = None
) -> tuple[Tensor, list[str]]:
    """One part of Omniglot, or one alphabet of it.

    Args:
        part: `"images_background"` or `"images_evaluation"`.
        root: see `find_root`.
        download: fetch the part where it is not there.

    Returns:
        uint8 `[characters * 20, 1, H, W]`, character by character, and the characters' names.

    Raises:
        InputError: nothing there and nothing to be fetched; characters or drawings missing; a damaged file.
    """
    folder = find_root(root)
    if not sources(part, folder):
        if not download:
            raise InputError(_absent(part, folder, "download is off"))
        fetch(part, folder)
    source, drawings = _first_complete(part, folder, alphabet)
    files = [file for character in drawings for file in drawings[character]]
    if source.is_dir():
        stamp = fingerprint([source / file for file in files], source)
    else:
        stamp = fingerprint([source], source.parent)
    key = {"source": str(source.resolve()), "fingerprint": stamp, "alphabet": alphabet, "transform": vars(transform)}
    x = cached(source.parent, f"omniglot-{alphabet or part}", key, lambda: _decode_all(source, files, transform))
    return x, list(drawings)


def fetch(part: str, folder: Path) -> None:
    """Download one part with torchvision (progress bar, checksum) into `folder/omniglot-py`."""
    datasets = compat.torchvision().datasets
    try:
        folder.mkdir(parents=True, exist_ok=True)
        datasets.Omniglot(str(folder), background=part == "images_background", download=True)
    except (OSError, RuntimeError, zipfile.BadZipFile) as error:  # URLError and timeouts are OSErrors
        raise InputError(_absent(part, folder, f"downloading it failed: {first_line(error)}")) from None


def _absent(part: str, folder: Path, why: str) -> str:
    return (
        f"Omniglot's {part} is not in {folder} ({why}): put {part}.zip from "
        f"https://github.com/brendenlake/omniglot/tree/master/python into {folder / 'omniglot-py'}, "
        "or set FEWSHOT_KIT_DATA to the folder that holds omniglot-py, or use --dataset glyphs, which needs no files."
    )


def _first_complete(part: str, folder: Path, alphabet: str | None) -> tuple[Path, Drawings]:
    problems = []
    for source in sources(part, folder):
        drawings = _listing(source, alphabet)
        problem = _incomplete(part, source, drawings, alphabet)
        if not problem:
            return source, drawings
        problems.append(problem)
    raise InputError(f"{problems[0]} Remove it to have it downloaded again, or put the complete {part}.zip there.")


def _listing(source: Path, alphabet: str | None) -> Drawings:
    """Drawings by character; names only, nothing is decoded."""
    try:
        if source.is_dir():
            files = [path.relative_to(source).as_posix() for path in source.glob("*/character*/*.png")]
        else:
            with zipfile.ZipFile(source) as archive:
                files = [name for name in archive.namelist() if not name.startswith("__MACOSX")]
    except zipfile.BadZipFile as error:
        raise InputError(f"{source} is no zip archive ({first_line(error)}); remove it and fetch it again.") from None
    found: defaultdict[str, list[str]] = defaultdict(list)
    for file in sorted(files):
        match = DRAWING.search(file)
        if match and alphabet in (None, match[1]):
            found[f"{match[1]}/{match[2]}"].append(file)
    return {character: found[character] for character in sorted(found)}


def _incomplete(part: str, source: Path, drawings: Drawings, alphabet: str | None) -> str:
    """What is missing, as a sentence; nothing where all is there."""
    expected = CHARACTERS[part] if alphabet is None else FUTURAMA
    if len(drawings) != expected:
        gaps = ", ".join(_gaps(drawings)[:3])
        missing = f"; {gaps} is missing" if gaps else ""
        return f"{source} has {len(drawings)} of {alphabet or 'Omniglot'}'s {expected} characters{missing}."
    for character, files in drawings.items():
        if len(files) != DRAWINGS:
            return f"{source} has {len(files)} drawings of {character} where there should be {DRAWINGS}."
    return ""


def _gaps(drawings: Drawings) -> list[str]:
    """Characters left out in the numbering of an alphabet, which starts at 1."""
    last: dict[str, int] = {}
    for character in drawings:
        alphabet, number = character.rsplit("/character", 1)
        last[alphabet] = max(last.get(alphabet, 0), int(number))
    expected = [f"{name}/character{number:02d}" for name, top in last.items() for number in range(1, top + 1)]
    return [character for character in expected if character not in drawings]


def _decode_all(source: Path, files: list[str], transform: Transform) -> Tensor:
    return stack_images(_images(source, files, transform), len(files), "decoding Omniglot")


def _images(source: Path, files: list[str], transform: Transform) -> Iterator[np.ndarray]:
    if source.is_dir():
        yield from (decode(source / file, transform, str(source / file)) for file in files)
        return
    with zipfile.ZipFile(source) as archive:
        for file in files:
            try:
                content = archive.read(file)
            except (zipfile.BadZipFile, OSError) as error:
                raise InputError(
                    f"{file} in {source} cannot be read ({first_line(error)}); fetch the archive again."
                ) from None
            yield decode(content, transform, f"{file} in {source}")
