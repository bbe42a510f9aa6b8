"""A disk cache of computed tensors: one safetensors file per source and settings, rebuilt if either changes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...disk import metadata, replace
from ...errors import first_line
from .roots import find_cache

FORMAT = 2  # raise it if the meaning of a key changes
OWN = re.compile(r".*-([0-9a-f]{16})(?:\.safetensors|[a-z0-9_]{8}\.tmp)")  # a finished file, or one being written

LONGEST_NAME = 150  # bytes; disks allow 255 for a file's name

Named = tuple[Tensor, list[str]]  # one entry for each example, and names that only the source knows


def cached(
    name: str, key: dict[str, Any], make: Callable[[], Named], fits: Callable[[Tensor, list[str]], bool]
) -> Named:
    """Returns the result of `make`, from the user's cache folder if it was computed before.

    Args:
        name: start of the file name.
        key: everything that the result depends on, as JSON values: place, files and sizes of the source, settings.
        make: computes the result, with a tensor of any dtype on the CPU. It is called if nothing is cached, or if the
            cached file is damaged (with a warning).
        fits: whether a result is what `make` might give, by its shape and names. A checksum says nothing about that.
    """
    said = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    short = name.encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore")
    path = find_cache() / f"{short}-{_digest(said)}.safetensors"
    if os.path.exists(path):
        try:
            found = _read(path, said)
            if not fits(*found):
                raise _Damaged("its content does not fit the source")
            return found
        except _Damaged as error:
            warnings.warn(f"The cache {path} is damaged ({error}); it is built anew.", stacklevel=2)
    made = make()
    try:
        _write(path, *made, said)
    except OSError as error:
        warnings.warn(f"What was computed cannot be kept in {path.parent} ({first_line(error)}).", stacklevel=2)
    return made


def cached_files() -> dict[Path, int]:
    """Returns the files that `cached` wrote into the cache folder, and the bytes of each. Other files are left out.

    Raises:
        OSError: the folder cannot be read.
    """
    folder, found = find_cache(), {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            if _is_own(path):
                found[path] = path.stat().st_size
    return found


def _is_own(path: Path) -> bool:
    """Returns whether `cached` wrote the file. Others may have such names, so a finished file's key is checked too."""
    match = OWN.fullmatch(path.name)
    if match is None or not path.is_file():
        return False
    if path.suffix == ".tmp":
        return True
    return _digest(metadata(path).get("key", "")) == match[1]


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class _Damaged(Exception):
    pass


def _checksum(tensor: Tensor, names: str) -> str:
    content = tensor.reshape(-1).view(torch.uint8).numpy().data
    return f"{zlib.crc32(content, zlib.crc32(names.encode())):08x}"


def _read(path: Path, key: str) -> Named:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            said, tensor = file.metadata() or {}, file.get_tensor("x")
    except (SafetensorError, OSError, RuntimeError) as error:  # torch's of absurd shapes
        raise _Damaged(first_line(error)) from None
    if said.get("key") != key:
        raise _Damaged("it belongs to other settings")
    names = said.get("names", "")
    if said.get("crc32") != _checksum(tensor, names):
        raise _Damaged("its checksum does not fit")
    try:
        listed = json.loads(names)
    except (ValueError, RecursionError):
        listed = None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise _Damaged("it holds no list of names")
    return tensor, listed


def _write(path: Path, tensor: Tensor, names: list[str], key: str) -> None:
    from safetensors.torch import save

    said = json.dumps(names)
    data = save({"x": tensor.contiguous()}, {"key": key, "names": said, "crc32": _checksum(tensor, said)})
    replace(path, data, path.with_name(f"{path.stem}{secrets.token_hex(4)}.tmp"))


def fingerprint(paths: Sequence[Path | str], folder: Path) -> str:
    """Returns a hash of the files' names, sizes and times of change. It changes if any file is replaced."""
    digest = hashlib.sha256()
    start = os.path.join(folder, "")
    for path in paths:
        status = os.stat(path)
        line = f"{os.fspath(path).removeprefix(start)}\0{status.st_size}\0{status.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))  # names of files may be no UTF-8
    return digest.hexdigest()
