"""Files that survive a kill and a full disk. Tensors are stored as safetensors with a checksum, never as pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..disk import LONGEST_HEADER, metadata, replace
from ..errors import InputError, first_line

FORMAT_VERSION = 1
_KEY = "fewshot_kit"  # key of the kit's JSON in a safetensors header


def write_bytes(path: str | Path, data: bytes) -> None:
    """Replaces a file as a whole. Readers see the old content or the new, even after a kill.

    Raises:
        InputError: the disk is full, or the folder cannot be written to. The old file is kept.
    """
    path = Path(path)
    try:
        replace(path, data, path.with_name(f".{path.name}.{os.getpid()}.tmp"))
    except OSError as error:
        raise unwritable(path, error, kept=path.exists()) from error


def remove_unfinished(folder: Path) -> None:
    """Removes what killed processes left of the files that they were writing in a folder."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()


def unwritable(path: Path, error: OSError, kept: bool = False) -> InputError:
    """Returns the error for a file that could not be written."""
    old = " The version before it is kept." if kept else ""
    return InputError(
        f"{path} could not be written: {error.strerror or first_line(error)}; "
        f"free some space or choose another folder.{old}"
    )


def write(path: str | Path, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Writes a safetensors file with named tensors of any shapes and dtypes, and with JSON values.

    Raises:
        InputError: the file cannot be written (`write_bytes`).
    """
    write_bytes(path, packed(tensors, meta))


def packed(tensors: dict[str, Tensor], meta: dict[str, Any]) -> bytes:
    """Returns the content of the file that `write` writes."""
    import safetensors.torch

    # safetensors refuses tied tensors, which share their memory, so each tensor is copied.
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    header = {"version": FORMAT_VERSION, "sha256": _checksum(copies, meta), "meta": meta}
    return safetensors.torch.save(copies, {_KEY: json.dumps(header)})


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the tensors (on the CPU) and the JSON values that `write` wrote.

    Raises:
        InputError: the file is missing, truncated, altered, not of this kit, or from a newer version of it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(8)  # the header's length; the rest of a large file of another kind is not read
            data = start + (b"" if int.from_bytes(start, "little") > LONGEST_HEADER else file.read())
    except FileNotFoundError:
        raise InputError(f"There is no file {path}; check the path, or train and save first.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; give the path of a saved file.") from error
    return unpacked(data, path)


def unpacked(data: bytes, path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns what `packed` made bytes of. The error of damaged ones names `path`."""
    import safetensors
    import safetensors.torch

    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        kept = json.loads((header.get("__metadata__") or {}).get(_KEY, "{}"))
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:  # torch's of absurd shapes too
        raise InputError(
            f"{path} is truncated or damaged ({first_line(error)}); restore it from a copy, or train again."
        ) from error
    if not isinstance(kept, dict) or not isinstance(kept.get("version"), int) or "meta" not in kept:
        raise InputError(f"{path} was not written by fewshot-kit; give the path of a file that it saved.")
    if kept["version"] > FORMAT_VERSION:
        raise InputError(
            f"{path} has format version {kept['version']} and this fewshot-kit reads up to {FORMAT_VERSION}; "
            "upgrade it with pip install -U fewshot-kit."
        )
    try:
        expected = _checksum(tensors, kept["meta"])
    except RecursionError:  # JSON that is nested too deep to be written again
        expected = None
    if expected is None or kept.get("sha256") != expected:
        raise InputError(f"{path} is damaged: its checksum does not match; restore it from a copy, or train again.")
    return tensors, kept["meta"]


def peek(path: str | Path) -> Any:
    """Returns the JSON values that `write` wrote, from the header alone, unchecked; None where there are none."""
    try:
        return json.loads(metadata(path)[_KEY])["meta"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def is_own(path: str | Path) -> bool:
    """Returns whether `write` wrote this file, judged by its header alone."""
    try:
        return _KEY in metadata(path)
    except OSError:
        return False


def _checksum(tensors: dict[str, Tensor], meta: Any) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def flatten(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Splits nested dicts, lists, tuples, tensors and JSON values into named tensors, and their structure as JSON.

    Raises:
        InputError: any other value; the message says where it is.
    """
    tensors: dict[str, Tensor] = {}

    def visit(value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, Tensor):
            name = path or "tensor"
            while name in tensors:  # {"a/b": ..., "a": {"b": ...}} has two paths with one spelling
                name += "'"
            tensors[name] = value
            return {"tensor": name}
        inner = f"{path}/" if path else ""
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str | int):
                    raise InputError(f"The key {key!r} at '{path}' cannot be saved; use strings or whole numbers.")
            return {"dict": [[key, visit(item, f"{inner}{key}")] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [visit(item, f"{inner}{index}") for index, item in enumerate(value)]}
        if value is None or isinstance(value, str | int | float):
            return {"value": value}
        raise InputError(
            f"A {type(value).__name__} at '{path}' cannot be saved; keep to tensors, numbers and strings in "
            "dicts, lists and tuples."
        )

    structure = visit(state, "")
    return tensors, structure


def unflatten(tensors: dict[str, Tensor], structure: Any) -> Any:
    """Returns the nested value that `flatten` split.

    Raises:
        ValueError, TypeError, LookupError, AttributeError, RecursionError: a structure that `flatten` does not give.
    """
    ((kind, content),) = structure.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: unflatten(tensors, item) for key, item in content}
    if kind in ("list", "tuple"):
        items = [unflatten(tensors, item) for item in content]
        return items if kind == "list" else tuple(items)
    if kind != "value":
        raise ValueError(f"there is no kind '{kind}'")
    return content
