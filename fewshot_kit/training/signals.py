"""Turns Ctrl-C and SIGTERM into requests to stop, so that no signal interrupts an update halfway."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def stop_requests(say: bool = True) -> Iterator[list[int]]:
    """The signals received, SIGINT or SIGTERM; each asks for a stop after the iteration at hand, and says so."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread may install handlers
        yield received
        return

    def ask(number: int, frame: Any) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)
        with contextlib.suppress(OSError):  # stderr may be closed
            if say:  # print() is unsafe in a handler
                os.write(2, b"\nStopping after this iteration; Ctrl-C again stops at once.\n")

    # An ignored signal (nohup) stays ignored. A handler from outside Python (None) could not be restored, so it stays.
    asked = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, ask) for number in asked}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
