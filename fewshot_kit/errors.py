"""What the user got wrong, said in one sentence. The command line prints these and exits with status 2."""

import difflib


class KitError(Exception):
    """Base of every error whose message is meant for the user as it stands."""


class InputError(KitError, ValueError):
    """A value, file, model or data set that cannot be used; the message names it and the fix."""


class UnknownName(KitError, LookupError):
    """A name that no registry knows."""


class MisfitWarning(UserWarning):
    """A learner does not even fit the examples that it was given."""


def first_line(error: BaseException) -> str:
    """The first line of another library's message, for quoting inside one of ours."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def closest(name: str, names: list[str]) -> str:
    """`" Did you mean 'x'?"` for the nearest of `names`, or nothing when none is near."""
    near = difflib.get_close_matches(name, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else ""
