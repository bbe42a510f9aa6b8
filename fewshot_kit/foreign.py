"""Contains the code of plug-ins while it is imported: it may exit, interrupt or print, and must not break the kit."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from .errors import KitError, first_line


class Failed(Exception):
    """A plug-in failed. The message says how in one line, and `__cause__` is what it raised."""


@contextlib.contextmanager
def contained() -> Iterator[None]:
    """Context for importing a plug-in. What it prints to stdout goes to stderr, since a program may read stdout.

    Raises:
        Failed: whatever the plug-in raises, also `SystemExit` and a `KeyboardInterrupt` without Ctrl-C.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    with _ctrl_c() as pressed, _stdout_to_stderr():
        try:
            yield
        except BaseException as error:
            if pressed and isinstance(error, KeyboardInterrupt):
                raise
            said = first_line(error)
            raise Failed(said if isinstance(error, KitError) else f"{type(error).__name__}: {said}") from error


@contextlib.contextmanager
def _ctrl_c() -> Iterator[list[int]]:
    """Yields a list that grows when Ctrl-C is pressed, which goes on to do what it did before."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield pressed  # other threads get no signals, and may not install handlers
        return

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # a plug-in may have its own from now on
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Sends stdout to stderr, of Python and of the process: libraries in C and commands print there too."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        with contextlib.suppress(OSError):  # one of them is closed
            _flush()
            kept = os.dup(1)
            stack.callback(os.close, kept)
            os.dup2(2, 1)
            stack.callback(os.dup2, kept, 1)
            stack.callback(_flush)
        yield


def _flush() -> None:
    if sys.__stdout__ is not None:
        with contextlib.suppress(OSError, ValueError):  # it is full, or closed
            sys.__stdout__.flush()
