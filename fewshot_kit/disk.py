"""Files that are whole whatever happens, and what a safetensors file says of itself."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

LONGEST_HEADER = 100_000_000  # bytes, of a safetensors file


def replace(path: Path, data: bytes, temporary: Path) -> None:
    """Write a file as a whole: readers see the old content or the new, whatever happens in between.

    Args:
        path: its folder is made where it does not exist.
        temporary: where it is first written, in the same folder; nothing is left there. Processes that may write at the
            same time need names of their own.

    Raises:
        OSError: the disk is full, or the folder cannot be written to. The old file is still there then.
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
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot open folders, and needs no such call
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def metadata(path: str | Path) -> dict[str, str]:
    """The texts beside the tensors of a safetensors file, by its header alone; none where it is no such file.

    Not by safetensors itself, which opens no truncated file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        header = file.read(min(int.from_bytes(file.read(8), "little"), LONGEST_HEADER))
    try:
        found = json.loads(header)["__metadata__"]
    except (ValueError, LookupError, TypeError):
        return {}
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}
