"""Several views of an image, whose embeddings are averaged (Bendou et al., "EASY", 2022, on augmented samples)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError

COUNTS = (1, 2, 10)
KEPT = 0.875  # share of each side that a crop keeps


def views_of(x: Tensor, count: int) -> list[Tensor]:
    """Images `[N, C, H, W]` -> list of `count` views of the same shape.

    The views are the images, for 2 and 10 also their mirror images, and for 10 also crops of the four corners of both.

    Args:
        count: one of `COUNTS`.

    Raises:
        InputError: more than one view is asked for, and the examples are not images.
    """
    if count == 1:
        return [x]
    if x.dim() != 4:
        raise InputError(f"views={count} mirrors images, and an example has shape {list(x.shape[1:])}; take views=1.")
    return [view for each in (x, x.flip(-1)) for view in ([each, *_corners(each)] if count > 2 else [each])]


def _corners(x: Tensor) -> list[Tensor]:
    height, width = x.shape[-2:]
    tall, wide = max(1, round(KEPT * height)), max(1, round(KEPT * width))
    cut = [x[..., top : top + tall, left : left + wide] for top in (0, height - tall) for left in (0, width - wide)]
    return [F.interpolate(each, (height, width), mode="bilinear", align_corners=False) for each in cut]
