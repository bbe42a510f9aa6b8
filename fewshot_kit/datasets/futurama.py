"""Omniglot's alphabet Futurama: 26 characters of 20 drawings each, 16 for training and 10 for the test."""

from __future__ import annotations

import torch

from ..errors import InputError
from ._registry import register
from .files.images import Transform
from .files.omniglot import DRAWINGS, load
from .splits.class_splits import by_counts
from .splits.data import Data, make_data
from .splits.split import Split

TRAINING = 16


@register("futurama")
def futurama(
    root: str | None = None,
    image_size: int = 28,
    rotations: str = "none",
    seed: int = 0,
    resample: str = "lanczos",
    download: bool = True,
    validation: int = 0,
) -> Data[Split]:
    """Omniglot's Futurama characters, 16 for training and 10 for the test, by seed.

    The other options are as for `omniglot`.

    Args:
        validation: how many of the 16 characters validate. By default all of them train, because they are few.

    Raises:
        InputError: as `omniglot` does; more than 14 characters to validate.
    """
    if not 0 <= validation <= TRAINING - 2:
        raise InputError(f"validation is {validation}; it must leave 2 of the {TRAINING} characters to train on.")
    transform = Transform(image_size, channels=1, invert=True, resample=resample)
    x, names = load("images_background", root, transform, download, alphabet="Futurama")
    y = torch.arange(len(names)).repeat_interleave(DRAWINGS)
    train, test = by_counts([TRAINING, len(names) - TRAINING], seed)
    parts = [train[: TRAINING - validation], train[TRAINING - validation :], test]
    options = {"image_size": image_size, "rotations": rotations, "seed": seed, "resample": resample}
    options |= {"validation": validation} if validation else {}
    return make_data("futurama", x, y, names, parts, options, rotations, transform)
