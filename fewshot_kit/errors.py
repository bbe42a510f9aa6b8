"""Errors that tell the user in one sentence what is wrong. The command line prints them and exits with status 2."""

import difflib

LONGEST = 4000  # characters of a message
BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"  # at which `str.splitlines` begins a new line


class KitError(Exception):
    """Base of all errors whose messages are written for the user."""


class InputError(KitError, ValueError):
    """A value, file, model or data set that cannot be used; the message names it and the fix.

    The message is one line, whatever the names and values in it: line breaks are written out, as `\\n`, and a text of
    more than `LONGEST` characters loses its middle.
    """

    def __init__(self, said: object = "") -> None:
        line = "".join(ascii(each)[1:-1] if each in BREAKS else each for each in str(said))
        half = LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}")


class UnknownName(KitError, LookupError):
    """A name that no registry knows."""


class MisfitWarning(UserWarning):
    """A learner does not even fit the examples that it was given."""


class SmallerChunkWarning(UserWarning):
    """A meta-batch ran out of memory, and goes on with fewer episodes at a time."""


def first_line(error: BaseException) -> str:
    """Returns the first line of another library's message, to be quoted in the kit's own."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def in_digits(number: int) -> str:
    """Returns a whole number as text, a very long one shortened: Python refuses to print more than 4,300 digits."""
    return str(number) if number.bit_length() <= 128 else f"{'-' * (number < 0)}2**{number.bit_length() - 1} or more"


def brief(text: object, longest: int = 200) -> str:
    """Returns a text of somebody else's as one short line that a terminal can show, to be quoted in the kit's own."""
    line = "".join(each if each.isprintable() else "?" for each in str(text)[: longest + 1])
    return line if len(line) <= longest else f"{line[:longest]}..."


def closest(name: str, names: list[str]) -> str:
    """Returns `" Did you mean 'x'?"` with the nearest of `names`, or "" if none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
