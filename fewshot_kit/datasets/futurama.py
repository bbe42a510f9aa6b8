"""Omniglot's alphabet Futurama: 26 characters of 20 drawings, 16 to train on and 10 that stay unseen."""

from __future__ import annotations

import torch

from ._registry import register
from .class_splits import by_counts
from .data import Data, make_data
from .images import Transform
from .omniglot_files import DRAWINGS, load


@register("futurama")
def futurama(
    root: str | None = None,
    image_size: int = 28,
    rotations: str = "none",
    seed: int = 0,
    resample: str = "lanczos",
    download: bool = True,
) -> Data:
    """16 training and 10 test characters, by seed; there is no validation split. Options as for `omniglot`.

    Raises:
        InputError: as `omniglot` does.
    """
    transform = Transform(image_size, channels=1, invert=True, resample=resample)
    x, names = load("images_background", root, transform, download, alphabet="Futurama")
    y = torch.arange(len(names)).repeat_interleave(DRAWINGS)
    train, test = by_counts([16, 10], seed)
    options = {"image_size": image_size, "rotations": rotations, "seed": seed, "resample": resample}
    return make_data("futurama", x, y, names, [train, [], test], options, rotations, transform)
