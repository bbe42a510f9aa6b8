"""A built-in alphabet of any size. Random stroke programs draw the characters, after an idea of Lake, Salakhutdinov and
Tenenbaum (Science, 2015). Nothing is downloaded. A seed gives the same images on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .files.images import Transform
from .glyphs_on_the_fly import GlyphsOnTheFly
from .splits.class_splits import FRACTIONS, by_fractions
from .splits.data import Data, make_data
from .splits.split import Split
from .strokes import draw_characters


@register("glyphs")
def glyphs(
    classes: int = 300,
    drawings: int = 20,
    image_size: int = 28,
    seed: int = 0,
    rotations: str = "none",
    on_the_fly: bool = False,
) -> Data[Split]:
    """Procedural characters, bright ink on black, split 64 / 16 / 20 percent into train, validation and test.

    Args:
        classes: number of characters.
        drawings: drawings of each character. Drawing k of every character is in the style of the same drawer.
        image_size: pixels of each side.
        seed: seed of the characters, the drawers and the split.
        rotations: rotations of the training characters, see `Split`.
        on_the_fly: draw other characters, those that an episode asks for at a time, so that a million of them need
            no more memory than their names.

    Raises:
        InputError: numbers out of range.
    """
    check_counts(0, classes=classes, drawings=drawings, image_size=image_size)
    if drawings < 2:
        raise InputError(f"drawings is {drawings}; at least 2 of each character are needed.")
    if image_size < 8:
        raise InputError(f"image_size is {image_size}; glyphs need at least 8 pixels.")
    parts = by_fractions(classes, FRACTIONS, seed, "glyphs")
    names = [f"glyph{index:04d}" for index in range(classes)]
    options = {"classes": classes, "drawings": drawings, "image_size": image_size, "seed": seed, "rotations": rotations}
    paper = Transform(image_size, channels=1, invert=True)  # turns a user's own drawings into glyphs
    if on_the_fly:
        return _on_the_fly(names, parts, options | {"on_the_fly": True}, paper)
    x = draw_characters(classes, drawings, image_size, torch.Generator().manual_seed(seed))
    y = torch.arange(classes).repeat_interleave(drawings)
    return make_data("glyphs", x, y, names, parts, options, rotations, paper)


def _on_the_fly(
    names: list[str], parts: Sequence[Sequence[int]], options: dict[str, Any], paper: Transform
) -> Data[Split]:
    def split(word: str, part: Sequence[int], rotations: str = "none") -> Split:
        drawings = options["drawings"]
        store = GlyphsOnTheFly(torch.tensor(part), drawings, options["image_size"], options["seed"])
        y = torch.arange(len(part)).repeat_interleave(drawings)
        return Split(store, y, [names[index] for index in part], f"the {word} split of glyphs", rotations, paper)

    train, validation, test = parts
    return Data(
        "glyphs",
        split("training", train, options["rotations"]),
        split("validation", validation),
        split("test", test),
        options,
    )
