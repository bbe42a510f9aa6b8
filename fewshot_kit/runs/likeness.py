"""Compares images with a run's training images by a few statistics."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..datasets.splits.store import Store

MOST = 500  # images that are measured, spread over all
CHUNK = 50  # images that are measured at a time, to bound memory
# Most standard deviations from the training images' mean. Held-back drawings and photos lie up to 1.6 away in support
# sets of five, and up to 4.5 alone. Inverted drawings lie 25 away, and photos among drawings 12.
FAR = 5.0
LEAST_SPREAD = 0.02  # least standard deviation, for training images that are nearly alike
GREY = 0.01  # an image is grey if its channels differ by less than this on average
OTHER = 0.75  # least difference between shares of grey images; one photo in fifty is grey
MANY = 4  # least number of images to judge their colours
BLURRED = 0.55  # share of the training images' detail; photos enlarged four times have 0.4, sharp support sets more


@dataclass(frozen=True)
class Statistics:
    """Statistics of the training images: uint8 images scaled to 0 to 1, not normalised."""

    mean: float  # over all images
    mean_spread: float  # standard deviation of the images' own means
    deviation: float  # the mean of the images' own standard deviations
    deviation_spread: float
    grey: float  # share of images without colour
    detail: float  # mean difference of horizontal neighbours


def measured(images: Tensor | Store) -> Statistics:
    """Returns the statistics of at most `MOST` of the uint8 images `[N, C, H, W]`."""
    rows = []
    for part in images[:: -(-len(images) // MOST)].split(CHUNK):
        x = part.float() / 255
        flat = x.flatten(1)
        colour = (x.amax(1) - x.amin(1)).flatten(1).mean(1)
        detail = x.diff(dim=-1).abs().flatten(1).mean(1)
        rows.append(torch.stack([flat.mean(1), flat.std(1, correction=0), (colour < GREY).float(), detail], 1))
    each = torch.cat(rows)
    mean, deviation, grey, detail_ = each.mean(0).tolist()
    mean_spread, deviation_spread, *_ = each.std(0, correction=0).tolist()
    found = (mean, mean_spread, deviation, deviation_spread, grey, detail_)
    return Statistics(*(round(value, 4) for value in found))


def unlike(images: Tensor, recorded: Statistics, sides: Sequence[int]) -> str | None:
    """Returns why these images are unlike the recorded ones, in words, or None if they are alike.

    Args:
        images: uint8 `[N, C, H, W]`, after the run's transform but not normalised.
        recorded: statistics of the run's training images.
        sides: pixels of each image's shorter side before the transform.
    """
    own = measured(images)
    found = []
    if len(images) >= MANY and abs(own.grey - recorded.grey) > OTHER:
        found.append("they are grey, not in colour" if own.grey > recorded.grey else "they are in colour, not grey")
    if _far(own.mean, recorded.mean, recorded.mean_spread):
        word = "brighter" if own.mean > recorded.mean else "darker"
        inverted = not _far(1 - own.mean, recorded.mean, recorded.mean_spread)
        found.append(
            f"they are much {word} (a mean of {own.mean:.2f}, not {recorded.mean:.2f} +- {recorded.mean_spread:.2f}"
            f"{'; inverted they would fit' if inverted else ''})"
        )
    if _far(own.deviation, recorded.deviation, recorded.deviation_spread):
        word = "more" if own.deviation > recorded.deviation else "less"
        found.append(
            f"they have much {word} contrast (a deviation of {own.deviation:.2f}, not {recorded.deviation:.2f} +- "
            f"{recorded.deviation_spread:.2f})"
        )
    side, size = statistics.median(sides), images.shape[-1]
    if 2 * side < size and own.detail < BLURRED * recorded.detail:  # the training images may have been enlarged too
        found.append(f"they are small and blurred ({side:.0f} pixels, enlarged to {size})")
    return ", and ".join(found) or None


def _far(value: float, mean: float, spread: float) -> bool:
    return abs(value - mean) > FAR * max(spread, LEAST_SPREAD)


def shorter_sides(paths: Sequence[Path | str]) -> list[int]:
    """Returns the pixels of each image file's shorter side, from its header alone."""
    from PIL import Image

    sides = []
    for path in paths:
        with Image.open(path) as image:
            sides.append(min(image.size))
    return sides
