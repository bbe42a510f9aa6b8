"""What the command line prints: streams that may be closed or lack a character, and mistakes in one sentence."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from ..errors import KitError


def without_traceback(run: Callable[[], int | None], *, name: str = "fewshot-kit", as_json: bool = False) -> int:
    """Calls `run`, and prints a user's mistake as one sentence on stderr.

    Args:
        run: returns the exit status; None is 0.
        name: the program's name, which starts the sentence.
        as_json: also print the sentence in a JSON object on stdout.

    Returns:
        The exit status: 2 for a user's mistake, 130 on Ctrl-C, else that of `run`.
    """

    def failed(said: str, status: int) -> int:
        if as_json:
            _last_words(json.dumps({"error": said}), sys.stdout)
        _last_words(f"{name}: {visible(said)}", sys.stderr)
        return status

    with usable_streams():
        try:
            status = run() or 0
            sys.stdout.flush()
            return status
        except KitError as error:
            return failed(str(error), 2)
        except KeyboardInterrupt as stopped:
            return failed(str(stopped) or "Interrupted.", 130)
        except BrokenPipeError:  # `fewshot-kit list | head`
            _last_words("", sys.stdout)
            return 0
        except OSError as error:  # an error that nobody expects, such as an unreadable folder or a full disk
            return failed(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.", 2)


@contextlib.contextmanager
def usable_streams() -> Iterator[None]:
    """Context in which printing does not fail for want of a stream or of a character.

    Closed streams (`>&-`) lead nowhere. Otherwise the next file that is opened would get their number, and with it
    what libraries print. A character that stdout cannot show becomes a question mark.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets this number, the lowest that is free
    with contextlib.ExitStack() as stack:
        for stream, redirect in ((sys.stdout, contextlib.redirect_stdout), (sys.stderr, contextlib.redirect_stderr)):
            if stream is None:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(redirect(nowhere))
            elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="replace")
                stack.callback(stream.reconfigure, errors="strict")
        yield


def _last_words(text: str, stream: TextIO) -> None:
    """Prints a line. If that fails, the stream leads nowhere from then on, or Python would complain at its end."""
    try:
        print(text, file=stream, end="\n" if text else "", flush=True)
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def visible(text: str) -> str:
    """Returns a text in which characters that steer a terminal, and bytes that are no text, are written out."""
    return "".join(each if each.isprintable() or each == "\n" else ascii(each)[1:-1] for each in text)
