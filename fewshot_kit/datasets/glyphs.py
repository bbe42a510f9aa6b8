"""A built-in alphabet of any size. Random stroke programs draw the characters, after an idea of Lake, Salakhutdinov and
Tenenbaum (Science, 2015). Nothing is downloaded. A seed gives the same images on every machine."""

from __future__ import annotations

import torch

from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .files.images import Transform
from .splits.class_splits import FRACTIONS, by_fractions
from .splits.data import Data, make_data
from .splits.split import Split
from .strokes import draw_characters


@register("glyphs")
def glyphs(
    classes: int = 300, drawings: int = 20, image_size: int = 28, seed: int = 0, rotations: str = "none"
) -> Data[Split]:
    """Procedural characters, bright ink on black, split 64 / 16 / 20 percent into train, validation and test.

    Args:
        classes: number of characters.
        drawings: drawings of each character. Drawing k of every character is in the style of the same drawer.
        image_size: pixels of each side.
        seed: seed of the characters, the drawers and the split.
        rotations: rotations of the training characters, see `Split`.

    Raises:
        InputError: numbers out of range.
    """
    check_counts(0, classes=classes, drawings=drawings, image_size=image_size)
    if drawings < 2:
        raise InputError(f"drawings is {drawings}; at least 2 of each character are needed.")
    if image_size < 8:
        raise InputError(f"image_size is {image_size}; glyphs need at least 8 pixels.")
    parts = by_fractions(classes, FRACTIONS, seed, "glyphs")
    x = draw_characters(classes, drawings, image_size, torch.Generator().manual_seed(seed))
    y = torch.arange(classes).repeat_interleave(drawings)
    names = [f"glyph{index:04d}" for index in range(classes)]
    options = {"classes": classes, "drawings": drawings, "image_size": image_size, "seed": seed, "rotations": rotations}
    paper = Transform(image_size, channels=1, invert=True)  # turns a user's own drawings into glyphs
    return make_data("glyphs", x, y, names, parts, options, rotations, paper)
