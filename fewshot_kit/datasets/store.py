"""Decoded images on disk: one safetensors file per source and settings, rebuilt whenever it does not fit."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import first_line
from .roots import find_cache

FORMAT = 1  # raised whenever what a key stands for changes


def cached(beside: Path, name: str, key: dict[str, Any], decode: Callable[[], Tensor]) -> Tensor:
    """The tensor that `decode` gives, from the disk where it was decoded before.

    Args:
        beside: the data's own folder; the cache goes there if that folder may be written to.
        name: start of the file name.
        key: everything that the tensor depends on, JSON-able: source files, sizes, settings.
        decode: called when nothing is cached, or what is cached is damaged (which is a warning).
    """
    said = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    path = find_cache(beside) / f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:16]}.safetensors"
    if path.exists():
        try:
            return _read(path, said)
        except _Damaged as error:
            warnings.warn(f"The cache {path} is damaged ({error}); it is built anew.", stacklevel=2)
    tensor = decode()
    try:
        _write(path, tensor, said)
    except OSError as error:
        warnings.warn(f"The decoded images cannot be kept in {path.parent} ({first_line(error)}).", stacklevel=2)
    return tensor


class _Damaged(Exception):
    pass


def _checksum(tensor: Tensor) -> str:
    return f"{zlib.crc32(tensor.numpy().data):08x}"


def _read(path: Path, key: str) -> Tensor:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensor = file.metadata() or {}, file.get_tensor("x")
    except (SafetensorError, OSError) as error:
        raise _Damaged(first_line(error)) from None
    if metadata.get("key") != key:
        raise _Damaged("it belongs to other settings")
    if metadata.get("crc32") != _checksum(tensor):
        raise _Damaged("its checksum does not fit")
    return tensor


def _write(path: Path, tensor: Tensor, key: str) -> None:
    """Written beside its place and renamed, so that a reader finds the whole file or none."""
    from safetensors.torch import save

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=path.stem, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save({"x": tensor.contiguous()}, {"key": key, "crc32": _checksum(tensor)}))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def fingerprint(paths: list[Path], folder: Path) -> str:
    """A hash of the files' names, sizes and times of change: another one when any of them is replaced."""
    digest = hashlib.sha256()
    for path in paths:
        status = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
