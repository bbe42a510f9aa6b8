"""Glyphs that are drawn when an episode asks for them, so that memory does not grow with the number of characters."""

from __future__ import annotations

import torch
from torch import Tensor

from ..seeds import stream
from .strokes import invent, perform, render, styles_of


class GlyphsOnTheFly:
    """Images of characters, as the `x` of a `Split`: what episodes ask for is drawn, and nothing is kept.

    Character i depends on the seed and i alone, and drawing k of every character is in the style of the same drawer.

    Args:
        characters: number of each character of the split, `[classes]`.
        drawings: drawings of each.
        image_size: pixels of each side.
        seed: seed of the characters and the drawers.
    """

    dtype, device = torch.uint8, torch.device("cpu")

    def __init__(self, characters: Tensor, drawings: int, image_size: int, seed: int) -> None:
        self.characters, self.drawings, self.seed = characters, drawings, seed
        self.shape = torch.Size([len(characters) * drawings, 1, image_size, image_size])
        self.styles = styles_of(drawings, stream(seed, "drawers"))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | slice) -> Tensor:
        rows = torch.arange(len(self))[index]
        return self.index_select(0, rows.reshape(-1)).view(*rows.shape, *self.shape[1:])

    def dim(self) -> int:
        return len(self.shape)

    def to(self, device: torch.device) -> GlyphsOnTheFly:
        """Returns the same: images are drawn on the CPU, for any device."""
        return self

    def index_select(self, dim: int, rows: Tensor) -> Tensor:
        """Draws the images of these rows, uint8 `[n, 1, image_size, image_size]`."""
        if not len(rows):
            return torch.empty(0, *self.shape[1:], dtype=torch.uint8)
        wanted, inverse = (rows // self.drawings).unique(return_inverse=True)
        drawn = [self._draw(int(self.characters[index])) for index in wanted]
        strokes, used, pens = (torch.stack(each) for each in zip(*drawn, strict=True))
        drawing = rows % self.drawings
        return render(strokes[inverse, drawing], used[inverse], pens[inverse, drawing], self.shape[-1])

    def _draw(self, character: int) -> tuple[Tensor, Tensor, Tensor]:
        """Control points `[drawings, STROKES, CONTROLS, 2]`, strokes in use `[STROKES]`, and pens `[drawings]`."""
        generator = stream(self.seed, "character", character)
        programs, used = invent(1, generator)
        strokes, pens = perform(programs, self.drawings, generator, self.styles)
        return strokes[0], used[0], pens[0]
