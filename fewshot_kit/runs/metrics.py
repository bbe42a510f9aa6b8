"""`metrics.jsonl` of a run folder: a line of JSON for every iteration."""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

from ..errors import InputError
from .config import ACCEPT
from .storage import unwritable, write_bytes


class Metrics:
    """The lines of a run, as they are written, and their digest, which a checkpoint keeps.

    Args:
        path: the file. Nothing is read or written before `restart` or `rewind`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0  # lines written
        self._size = 0  # bytes written
        self._sum = hashlib.sha256()
        self._file: io.FileIO | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of all lines."""
        return self._sum.hexdigest()

    def restart(self) -> None:
        """Makes the file anew, without a line."""
        self._replace([])

    def rewind(self, iteration: int, digest: str | None) -> list[dict[str, Any]]:
        """Cuts the file back to a checkpoint: later lines, and one that a kill left unfinished, go.

        Args:
            iteration: the checkpoint's iteration, to which there is a line for each.
            digest: that of these lines; None takes any.

        Returns:
            What the lines hold.

        Raises:
            InputError: lines are missing, or others than the checkpoint was written with.
        """
        try:
            kept = self.path.read_bytes().splitlines(keepends=True)[:iteration]
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}; restore it from a copy.") from error
        try:
            history = [json.loads(line) for line in kept]
            numbers = [line["iteration"] for line in history]
        except (ValueError, LookupError, TypeError, RecursionError):
            numbers = []
        if numbers != list(range(1, iteration + 1)):
            raise InputError(f"{self.path} does not hold iterations 1 to {iteration}; restore it from a copy.")
        if digest is not None and hashlib.sha256(b"".join(kept)).hexdigest() != digest:
            raise InputError(
                f"{self.path} was edited or damaged: its first {iteration} lines are not those that the checkpoint "
                f"was written with; restore it from a copy, or take it as it is by {ACCEPT}."
            )
        self._replace(kept)
        return history

    def append(self, history: list[dict[str, Any]]) -> None:
        """Writes the lines that the file does not have yet. `history` holds those of all iterations so far.

        A file that another program removed or changed is written again as a whole, with a warning.

        Raises:
            InputError: the disk is full, or the run folder is gone.
        """
        if not self._untouched():
            if not self.path.parent.is_dir():
                raise InputError(f"The run folder {self.path.parent} was removed while it was trained; train it anew.")
            warnings.warn(
                f"{self.path} was removed or changed by another program; it is written again as a whole.", stacklevel=4
            )
            self._replace(_lines(history[: self.count]))
        lines = _lines(history[self.count :])
        left = memoryview(b"".join(lines))
        self._count(lines)
        assert self._file is not None
        try:
            while left:  # an unbuffered write may take a part only
                left = left[self._file.write(left) :]
        except OSError as error:
            raise unwritable(self.path, error) from error

    def sync(self) -> None:
        """Waits until the lines are on the disk."""
        assert self._file is not None
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _untouched(self) -> bool:
        assert self._file is not None
        own = os.fstat(self._file.fileno())
        try:
            there = os.stat(self.path)
        except OSError:
            return False
        return (there.st_dev, there.st_ino, there.st_size) == (own.st_dev, own.st_ino, self._size)

    def _replace(self, lines: list[bytes]) -> None:
        self.close()
        write_bytes(self.path, b"".join(lines))
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115  closed by `close`
        self.count, self._size, self._sum = 0, 0, hashlib.sha256()
        self._count(lines)

    def _count(self, lines: list[bytes]) -> None:
        self.count += len(lines)
        for line in lines:
            self._size += len(line)
            self._sum.update(line)


def _lines(history: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(line).encode() + b"\n" for line in history]
