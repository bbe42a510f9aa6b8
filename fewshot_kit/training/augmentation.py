"""Changes training images at random, all images of a meta-batch at once and on its device.

Augmentation libraries draw from PyTorch's global generator. These functions take a CPU generator from the caller, so an
iteration sees the same images on every device and after any earlier draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..episodes import Episode
from ..errors import InputError

Places = tuple[int, Tensor]  # how many images there are, and which of them are at hand
COARSE = 5  # points along each side; random shifts of these points bend an image


def strokes(x: Tensor, generator: torch.Generator, among: Places | None = None) -> Tensor:
    """Returns changed line drawings `[N, C, H, W]`.

    Each drawing is rotated by up to 15 degrees, scaled by up to 16 % along each axis, sheared, shifted by up to a tenth
    of a side, and bent. A fraction 0.3 of the drawings get thicker strokes, and 0.15 get thinner ones.

    Args:
        x: images `[N, C, H, W]`, bright on black.
        generator: a CPU generator.
        among: the places of these images among all that are drawn for; by default these are all.
    """
    count, rows = among or (len(x), slice(None))
    angle, shear, along, across = _uniform(generator, 4, count)[:, rows]
    angle, shear, along, across = math.radians(15) * angle, 0.2 * shear, (0.15 * along).exp(), (0.15 * across).exp()
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([along * cos, across * (shear * cos - sin), along * sin, across * (cos + shear * sin)], 1)
    shift = 0.2 * _uniform(generator, count, 2, 1)[rows]  # of half a side
    bent = 0.06 * torch.randn(count, 2, COARSE, COARSE, generator=generator)[rows]
    chance = torch.rand(count, 1, 1, 1, generator=generator)[rows].to(x.device)
    x = _warped(x, torch.cat([matrix.view(-1, 2, 2), shift], 2), "zeros", bent)
    thicker = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 2, 1)
    thinner = (x - F.max_pool2d(F.pad(-x, (0, 1, 0, 1), value=-1e9), 2, 1)) / 2
    return torch.where(chance < 0.3, thicker, torch.where(chance > 0.85, thinner, x))


def photos(x: Tensor, generator: torch.Generator, among: Places | None = None) -> Tensor:
    """Returns changed photos `[N, C, H, W]`.

    Each photo is cropped to 40 to 100 % of its area, with sides of 3:4 to 4:3. Half of the photos are mirrored.
    Brightness and contrast change by up to 40 %.

    Args:
        x: images `[N, C, H, W]`, normalised or not.
        generator: on the CPU.
        among: as for `strokes`.
    """
    count, rows = among or (len(x), slice(None))
    area, shape = 0.7 + 0.3 * _uniform(generator, count)[rows], math.log(4 / 3) / 2 * _uniform(generator, count)[rows]
    width, height = (area.sqrt() * shape.exp()).clamp(max=1), (area.sqrt() * (-shape).exp()).clamp(max=1)
    mirrored = torch.where(torch.rand(count, generator=generator)[rows] < 0.5, -1.0, 1.0)
    zero = torch.zeros_like(width)
    matrix = torch.stack([mirrored * width, zero, zero, height], 1).view(-1, 2, 2)
    room = torch.stack([1 - width, 1 - height], 1)
    shift = (room * _uniform(generator, count, 2)[rows])[..., None]
    contrast, brightness = (0.4 * _uniform(generator, 2, count, 1, 1, 1)[:, rows]).to(x.device, x.dtype)
    x = _warped(x, torch.cat([matrix, shift], 2), "border")
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (1 + contrast) + brightness * x.std((1, 2, 3), keepdim=True)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator, Places | None], Tensor] | None] = {
    "none": None,
    "strokes": strokes,
    "photos": photos,
}


def check_augmentation(name: str) -> None:
    """Raises `InputError` if the augmentation does not exist."""
    if name not in AUGMENTATIONS:
        raise InputError(f"Unknown augmentation '{name}'; it is one of {', '.join(AUGMENTATIONS)}.")


def augmented(
    episodes: Episode, name: str, generator: torch.Generator, part: slice | None = None, count: int | None = None
) -> Episode:
    """Returns a meta-batch with every support and query image augmented independently.

    Args:
        part, count: these are the episodes `part` of a meta-batch of `count`; by default they are all of it.

    Raises:
        InputError: the examples are not images.
    """
    change = AUGMENTATIONS[name]
    if change is None or not len(episodes.query_x):
        return episodes
    support_x, query_x = episodes.support_x, episodes.query_x
    if query_x.dim() != 5:
        raise InputError(
            f"Only images can be augmented, and these examples have shape {list(query_x.shape[2:])}; "
            "take augmentation='none'."
        )
    among = None if part is None or count is None else _places(episodes, part, count)
    x = change(torch.cat([support_x.flatten(0, 1), query_x.flatten(0, 1)]), generator, among)
    support, query = x.split([support_x.shape[:2].numel(), query_x.shape[:2].numel()])
    return episodes._replace(support_x=support.view_as(support_x), query_x=query.view_as(query_x))


def _places(episodes: Episode, part: slice, count: int) -> Places | None:
    """Where the images of some episodes are among those of all: first all support sets, then all queries."""
    if part == slice(0, count):
        return None
    shots, queries = (count * x.shape[1] for x in (episodes.support_x, episodes.query_x))
    numbers = torch.arange(shots).view(count, -1), shots + torch.arange(queries).view(count, -1)
    return shots + queries, torch.cat([each[part].flatten() for each in numbers])


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Returns uniform numbers from -1 to 1."""
    return 2 * torch.rand(*shape, generator=generator) - 1


def _warped(x: Tensor, matrix: Tensor, outside: str, bent: Tensor | None = None) -> Tensor:
    """Returns the images sampled at the points of the affine maps `matrix` `[N, 2, 3]`.

    Args:
        outside: the value of points outside of an image: `"zeros"`, or `"border"` for the nearest pixel.
        bent: shifts of the points `[N, 2, points, points]`, interpolated to every pixel.
    """
    grid = F.affine_grid(matrix.to(x.device, x.dtype), list(x.shape), align_corners=False)
    if bent is not None:
        shifts = F.interpolate(bent.to(x.device, x.dtype), x.shape[2:], mode="bicubic", align_corners=True)
        grid = grid + shifts.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, padding_mode=outside, align_corners=False)
