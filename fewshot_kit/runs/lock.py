"""The lock of a run folder: one process at a time trains there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # said by file systems without locks


@contextlib.contextmanager
def training_lock(run: Path) -> Iterator[bool]:
    """Context in which no other process trains in a run folder.

    The operating system frees the lock when its process ends, in whatever way, so a dead process holds no run. Two
    files are there while it is held: `.lock`, and `.owner`, which names the process in the message of a second one.

    Yields:
        Whether the lock is held. On a file system without locks it is not, and a warning says so.

    Raises:
        InputError: another process trains there.
    """
    import filelock

    lock, owner = filelock.FileLock(run / ".lock", timeout=0, thread_local=False), run / ".owner"
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(
            f"{run} is being trained by {_named(owner)}; wait until that ends, or stop it, or name another --run."
        ) from None
    except (OSError, NotImplementedError) as error:  # where nothing can be written, the next file says so
        if isinstance(error, NotImplementedError) or error.errno in NO_LOCKS:
            warnings.warn(
                f"{run} is on a file system without locks, so nothing keeps a second process out: start only one.",
                stacklevel=3,
            )
        yield False
        return
    try:
        with contextlib.suppress(OSError):  # a full disk is said by the next file
            owner.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        yield True
    finally:
        with contextlib.suppress(OSError):
            owner.unlink()
        with contextlib.suppress(OSError):
            if not (run / ".lock").stat().st_size:  # else the library made a soft lock, and removes it itself
                (run / ".lock").unlink()
        lock.release()


def _named(owner: Path) -> str:
    try:
        found = json.loads(owner.read_text())
        return f"process {int(found['process'])} on {found['host']}"
    except (OSError, ValueError, LookupError, TypeError):  # it has the lock and has not said so yet
        return "another process"
