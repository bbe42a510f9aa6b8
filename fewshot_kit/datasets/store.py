"""Decoded images on disk: one safetensors file per source and settings, rebuilt whenever it does not fit."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import first_line
from .roots import find_cache

FORMAT = 2  # raised whenever what a key stands for changes


Decoded = tuple[Tensor, list[str]]  # images, and the classes' names where only the source tells them


def cached(beside: Path, name: str, key: dict[str, Any], decode: Callable[[], Decoded]) -> Decoded:
    """What `decode` gives, from the disk where it was decoded before.

    Args:
        beside: the data's own folder; the cache goes there if that folder may be written to.
        name: start of the file name.
        key: everything that the images depend on, JSON-able: source files, sizes, settings.
        decode: called when nothing is cached, or what is cached is damaged (which is a warning).
    """
    said = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    path = find_cache(beside) / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        try:
            return _read(path, said)
        except _Damaged as error:
            warnings.warn(f"The cache {path} is damaged ({error}); it is built anew.", stacklevel=2)
    decoded = decode()
    try:
        _write(path, *decoded, said)
    except OSError as error:
        warnings.warn(f"The decoded images cannot be kept in {path.parent} ({first_line(error)}).", stacklevel=2)
    return decoded


class _Damaged(Exception):
    pass


def _checksum(tensor: Tensor, names: str) -> str:
    return f"{zlib.crc32(tensor.numpy().data, zlib.crc32(names.encode())):08x}"


def _read(path: Path, key: str) -> Decoded:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensor = file.metadata() or {}, file.get_tensor("x")
    except (SafetensorError, OSError) as error:
        raise _Damaged(first_line(error)) from None
    if metadata.get("key") != key:
        raise _Damaged("it belongs to other settings")
    names = metadata.get("names", "")
    if metadata.get("crc32") != _checksum(tensor, names):
        raise _Damaged("its checksum does not fit")
    return tensor, json.loads(names)


def _write(path: Path, tensor: Tensor, names: list[str], key: str) -> None:
    """Written beside its place and renamed, so that a reader finds the whole file or none."""
    from safetensors.torch import save

    said = json.dumps(names)
    metadata = {"key": key, "names": said, "crc32": _checksum(tensor, said)}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save({"x": tensor.contiguous()}, metadata))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def fingerprint(paths: Sequence[Path | str], folder: Path) -> str:
    """A hash of the files' names, sizes and times of change: another one when any of them is replaced."""
    digest = hashlib.sha256()
    start = os.path.join(folder, "")
    for path in paths:
        status = os.stat(path)
        digest.update(f"{os.fspath(path).removeprefix(start)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
