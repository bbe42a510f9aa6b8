"""Shared functions for the networks of other libraries: checks of options, error messages, and the head."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import InputError, first_line
from ..ranges import check_counts

# The libraries' own options that read files, by how their names start. They are refused: some may open files of any
# kind, and a pickle can run any code. A run folder, which somebody else may have made, records options.
FILES = ("checkpoint", "pretrained_", "cache_dir", "weights_")


def check(
    label: str,
    ways: int,
    channels: int,
    image_size: int | None,
    pretrained: bool | str,
    weights: str | Path | None,
    options: dict[str, Any],
) -> None:
    check_counts(1, label, ways=ways, channels=channels)
    if image_size is not None:
        check_counts(1, label, image_size=image_size)
    if pretrained and weights:
        raise InputError(f"'{label}' cannot start from weights={weights} and pretrained={pretrained!r}; give one.")
    for option in options:
        if option.startswith(FILES):
            raise InputError(
                f"The option {option} of '{label}' is not for use here; weights from a file are given as weights=FILE."
            )


@contextlib.contextmanager
def said_by(label: str, pretrained: bool | str = False) -> Iterator[None]:
    """Context that turns the errors of another library into an `InputError` of one sentence.

    An error about an unknown option passes through, since the registry has a message for it.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # downloads and the library's own models may fail in any way
        if isinstance(error, TypeError) and "keyword argument" in str(error):
            raise
        how = f" with pretrained={pretrained!r}" if pretrained else ""
        # The hub's library uses httpx, whose errors are not OSErrors.
        offline = pretrained and (isinstance(error, OSError) or type(error).__module__.startswith("http"))
        fix = "; get online once, or give a file of weights instead, as weights=FILE" if offline else ""
        raise InputError(
            f"The model '{label}' cannot be made{how} ({type(error).__name__}: {first_line(error)}){fix}."
        ) from error


def head_of(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Returns the name of the head and the head itself, the last layer that is linear or a convolution."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
