"""Contact sheets: pictures of image files with a learner's predictions."""

from __future__ import annotations

import io
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..adaptation.pictures import pixels_of, upright
from ..datasets.files.decoding import decode_all
from ..errors import InputError
from ..runs.storage import write_bytes
from .predictions import Prediction, shortened

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# All sizes are in pixels.
TALLEST = 4000  # largest height of a page
TILE, SMALL = 132, 60  # sides of a query and of a support image
MARGIN, GAP = 32, 14
TITLE, HEADER, CAPTION, BAR = 64, 44, 44, 6
COLUMNS = (6, 10)  # least and most columns
PAPER, CARD, INK, PALE = "#ffffff", "#f0f1f4", "#1d2129", "#767c89"
# Least probability, colour and words. Colour-blind people can tell these colours apart (Okabe and Ito, 2008).
SURE = ((0.9, "#009e73", "90 % or more"), (0.6, "#e69f00", "60 to 90 %"), (0.0, "#d55e00", "less"))


@dataclass(frozen=True)
class Row:
    """A row of queries with one predicted class. The first row of a class has its support images above it."""

    label: Hashable
    queries: Sequence[Prediction]
    of: int  # all queries of the class
    support: Sequence[Path] = ()
    first: bool = True

    def height(self, top: bool) -> int:
        """Returns the row's pixels. The first row of a class, and a row at the top of a page, has the class's name."""
        heading = HEADER * (self.first or top) + (SMALL + GAP) * bool(self.support)
        return heading + TILE + BAR + CAPTION + GAP


def contact_sheet(
    path: str | Path,
    predictions: Sequence[Prediction],
    support: tuple[Sequence[Hashable], Sequence[Path]] | None = None,
) -> list[Path]:
    """Writes PNGs of all queries with label and probability, by predicted class, the most probable first.

    A page is at most 4,000 pixels high. Further pages are `NAME-2.png` and so on, and each shows the number of pages.

    Args:
        path: the first page; each page is replaced as a whole.
        predictions: one for each query, at least one.
        support: labels and paths of the support images, as `datasets.find_images` returns them. One row of them is
            shown above the queries of their class.

    Returns:
        The pages' paths.

    Raises:
        InputError: a path that does not end in .png; an image that cannot be read (named); a page that cannot be
            written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"A contact sheet is a PNG; give {path.with_suffix('.png')} in place of {path}.")
    groups: dict[Hashable, list[Prediction]] = {label: [] for label in predictions[0].probabilities}
    for one in predictions:
        groups[one.label].append(one)
    shown: dict[Hashable, list[Path]] = {}
    for label, place in zip(*support, strict=True) if support else ():
        shown.setdefault(label, []).append(place)
    columns = min(max(*map(len, groups.values()), COLUMNS[0]), COLUMNS[1])
    rows = [
        Row(label, queries[start : start + columns], len(queries), () if start else shown.get(label, ()), start == 0)
        for label, unsorted in groups.items()
        for queries in [sorted(unsorted, key=lambda one: -one.probability)]
        for start in range(0, len(queries), columns)
    ]
    pages = list(_pages(rows))
    places = [path if not number else path.with_stem(f"{path.stem}-{number + 1}") for number in range(len(pages))]
    classes = sum(map(bool, groups.values()))
    title = f"{_counted(len(predictions), 'image')}, {_counted(classes, 'predicted class', 'es')}"
    for number, (place, page) in enumerate(zip(places, pages, strict=True)):
        said = title if len(pages) == 1 else f"{title}; page {number + 1} of {len(pages)}"
        picture = io.BytesIO()
        _draw(page, said, columns).save(picture, "PNG")
        write_bytes(place, picture.getvalue())
    return places


def _pages(rows: Sequence[Row]) -> Iterator[list[Row]]:
    page: list[Row] = []
    height = 0
    for row in rows:
        if page and height + row.height(top=False) > TALLEST:
            yield page
            page = []
        height = row.height(top=False) + height if page else TITLE + MARGIN + row.height(top=True)
        page.append(row)
    yield page


def _draw(rows: Sequence[Row], title: str, columns: int) -> Image:
    from PIL import Image, ImageDraw

    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    height = TITLE + sum(row.height(top=number == 0) for number, row in enumerate(rows)) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    fitting = (width - 2 * MARGIN - 2 * SMALL) // (SMALL + GAP)  # support images that fit into a row
    queries = _thumbnails([one.path for row in rows for one in row.queries], TILE)
    support = _thumbnails([place for row in rows for place in row.support[:fitting]], SMALL)
    _heading(pen, title, width)
    y = TITLE
    for number, row in enumerate(rows):
        if row.first or number == 0:
            told = _counted(row.of, "image") if row.first else "continued"
            name = _fitted(pen, str(row.label), 20, width - 2 * MARGIN - 150)
            pen.text((MARGIN, y + 30), name, INK, _font(20), anchor="ls")
            pen.text((MARGIN + pen.textlength(name, _font(20)) + 12, y + 30), told, PALE, _font(13), anchor="ls")
            pen.line((MARGIN, y + HEADER - 6, width - MARGIN, y + HEADER - 6), CARD, 2)
            y += HEADER
        if row.support:
            pen.text((MARGIN, y + SMALL // 2), "support", PALE, _font(12), anchor="lm")
            x = MARGIN + SMALL + GAP // 2
            for _ in row.support[:fitting]:
                sheet.paste(next(support), (x, y))
                x += SMALL + GAP // 2
            if len(row.support) > fitting:
                pen.text((x, y + SMALL // 2), f"+ {len(row.support) - fitting}", PALE, _font(12), anchor="lm")
            y += SMALL + GAP
        for column, one in enumerate(row.queries):
            x = MARGIN + column * (TILE + GAP)
            sheet.paste(next(queries), (x, y))
            _caption(pen, one, x, y + TILE)
        y += TILE + BAR + CAPTION + GAP
    return sheet


def _heading(pen: ImageDraw, title: str, width: int) -> None:
    """Draws the title, and on the right the meaning of the colours."""
    pen.text((MARGIN, TITLE - 22), title, INK, _font(16), anchor="ls")
    x = width - MARGIN
    for _, colour, words in reversed(SURE):
        x -= int(pen.textlength(words, _font(12)))
        pen.text((x, TITLE - 22), words, PALE, _font(12), anchor="ls")
        pen.rectangle((x - 18, TITLE - 33, x - 7, TITLE - 22), colour)
        x -= 34
    pen.text((x + 6, TITLE - 22), "probability", PALE, _font(12), anchor="rs")


def _caption(pen: ImageDraw, one: Prediction, x: int, y: int) -> None:
    """Draws a bar for the probability, the label, the probability and the file's name below a query."""
    colour = next(colour for least, colour, _ in SURE if round(one.probability, 2) >= least)
    pen.rectangle((x, y, x + TILE - 1, y + BAR - 1), CARD)
    pen.rectangle((x, y, x + max(1, round(one.probability * TILE)) - 1, y + BAR - 1), colour)
    percent = f"{100 * one.probability:.0f} %"
    room = TILE - int(pen.textlength(percent, _font(13))) - 8
    pen.text((x + TILE, y + BAR + 18), percent, INK, _font(13), anchor="rs")
    pen.text((x, y + BAR + 18), _fitted(pen, str(one.label), 13, room), INK, _font(13), anchor="ls")
    pen.text((x, y + BAR + 36), _fitted(pen, one.path.name, 11, TILE, middle=True), PALE, _font(11), anchor="ls")


def _thumbnails(paths: Sequence[Path], side: int) -> Iterator[Image]:
    """Yields every image, uncropped, in a square of `side` pixels."""
    from PIL import Image, ImageOps

    def small(image: Image.Image) -> np.ndarray:
        image.draft(image.mode, (2 * side, 2 * side))  # a large JPEG is decoded at down to an eighth of its size
        colours = Image.fromarray(np.ascontiguousarray(upright(image, 3).transpose(1, 2, 0)))
        if side * min(colours.size) < max(colours.size):  # Pillow before 13 leaves nothing of the shorter side
            colours = colours.resize([max(1, side * length // max(colours.size)) for length in colours.size])
        return np.asarray(ImageOps.pad(colours, (side, side), color=CARD)).transpose(2, 0, 1)

    if paths:
        found = decode_all(
            paths, lambda place: pixels_of(place, 0, small), (3, side, side), "drawing the contact sheet"
        )
        yield from (Image.fromarray(pixels) for pixels in found.permute(0, 2, 3, 1).contiguous().numpy())


def _fitted(pen: ImageDraw, text: str, size: int, room: float, middle: bool = False) -> str:
    """Returns the text, shortened to the room with an ellipsis at its end or in its middle."""
    text = shortened(text, 200)
    found, length = text, len(text)
    while length > 1 and pen.textlength(found, _font(size)) > room:
        length -= 1
        start = (length + 1) // 2 if middle else length
        found = f"{text[:start]}…{text[len(text) - (length - start) :]}"
    return found


@lru_cache
def _font(size: int) -> FreeTypeFont:
    """Returns matplotlib's DejaVu Sans, because Pillow's own font has only ASCII letters."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _counted(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural * (number != 1)}"
