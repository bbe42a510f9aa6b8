"""Replaces files as a whole, reads the metadata of safetensors files, and completes paths."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from .errors import InputError

LONGEST_HEADER = 100_000_000  # bytes of a safetensors file's header


def replace(path: Path, data: bytes, temporary: Path) -> None:
    """Writes a file as a whole. Readers see the old content or the new, even after a kill.

    Args:
        path: the file; its folder is made if it does not exist.
        temporary: a path in the same folder, where the data is written first. It is removed. Processes that may write
            at the same time need different names.

    Raises:
        OSError: the disk is full, or the folder cannot be written to. The old file is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders, and does not need this
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def metadata(path: str | Path) -> dict[str, str]:
    """Returns the metadata texts in a safetensors file's header, or {} for any other file.

    The safetensors library would refuse a truncated file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        header = file.read(min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER))
    try:
        found = json.loads(header)["__metadata__"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}


def expanded(path: str | Path) -> Path:
    """Returns a path with a user's folder in place of `~` or `~name` at its start.

    Raises:
        InputError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise InputError(
            f"There is no user for the path {path}; write the folder out, or ./~NAME for its own name."
        ) from None
