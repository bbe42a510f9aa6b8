"""Draws characters from stroke programs: cubic B-splines through random control points, by drawers with a style."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STROKES, CONTROLS = 4, 5  # at most four strokes of five control points


def draw_characters(classes: int, drawings: int, image_size: int, generator: torch.Generator) -> Tensor:
    """Draws `classes` random characters, each `drawings` times, in bright ink on black.

    Returns:
        uint8 `[classes * drawings, 1, image_size, image_size]`, character by character.
    """
    programs, used = invent(classes, generator)
    strokes, pens = perform(programs, drawings, generator)
    used = used[:, None].expand(classes, drawings, STROKES)
    return render(strokes.flatten(0, 1), used.flatten(0, 1), pens.flatten(), image_size)


def invent(classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draws random stroke programs.

    Returns:
        Control points `[classes, STROKES, CONTROLS, 2]` in the unit square, and booleans for the strokes in use
        `[classes, STROKES]`.
    """
    kind = _uniform((classes, 1), generator)
    number = 1 + (kind > 0.15) + (kind > 0.55) + (kind > 0.85)
    used = torch.arange(STROKES) < number
    # Strokes are straight, evenly bent or cornered: each has a heading and a bend, and some have a kink.
    heading = 2 * math.pi * _uniform((classes, STROKES, 1), generator)
    bend = 1.3 * _bell((classes, STROKES, 1), generator) * (_uniform((classes, STROKES, 1), generator) > 0.35)
    kink = 1.6 * _bell((classes, STROKES, CONTROLS - 1), generator)
    kink = kink * (_uniform(kink.shape, generator) > 0.75)
    angle = heading + (bend + kink).cumsum(-1)
    length = 0.4 + 0.6 * _uniform((classes, STROKES, 1), generator)
    steps = length[..., None] * torch.stack([angle.cos(), angle.sin()], -1)
    shape = torch.cat([torch.zeros(classes, STROKES, 1, 2, dtype=torch.float64), steps.cumsum(2)], 2)
    strokes = [shape[:, 0]]
    for index in range(1, STROKES):
        # Most strokes start at a point of an earlier one, as in handwriting.
        earlier = torch.stack(strokes, 1).flatten(1, 2)
        pick = (_uniform((classes,), generator) * earlier.shape[1]).long()
        joint = earlier[torch.arange(classes), pick]
        free = _bell((classes, 2), generator) + shape[:, 0].mean(1)
        start = torch.where(_uniform((classes, 1), generator) < 0.7, joint, free)
        strokes.append(shape[:, index] + start[:, None])
    return _fit(torch.stack(strokes, 1), used), used


def _fit(strokes: Tensor, used: Tensor) -> Tensor:
    """Centres characters and scales them into the unit square, by the strokes in use."""
    points = strokes.flatten(1, 2)
    hidden = ~used.repeat_interleave(CONTROLS, 1)[..., None]
    low = points.masked_fill(hidden, math.inf).amin(1)
    high = points.masked_fill(hidden, -math.inf).amax(1)
    extent = (high - low).clamp_min(0.6 * (high - low).amax(1, keepdim=True))  # flat characters become a little taller
    return (strokes - ((low + high) / 2)[:, None, None]) / extent[:, None, None] + 0.5


def styles_of(drawings: int, generator: torch.Generator) -> Tensor:
    """Draws the drawers' styles `[5, 1, drawings]`: slant, turn, narrowness, size and pen."""
    return _bell((5, 1, drawings), generator)


def perform(
    programs: Tensor, drawings: int, generator: torch.Generator, styles: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Lets every drawer draw every program once.

    Args:
        styles: the drawers' styles; by default they are drawn first.

    Returns:
        Control points `[classes, drawings, STROKES, CONTROLS, 2]`, and the pens' radii `[classes, drawings]`, both
        as fractions of the image's side.
    """
    classes = len(programs)
    slant, turn, narrow, size, pen = styles_of(drawings, generator) if styles is None else styles
    own = _bell((5, classes, drawings), generator)  # each drawing's deviations
    slant = 0.18 * slant + 0.08 * own[0]
    turn = 0.10 * turn + 0.08 * own[1]
    across = 0.58 * (1 + 0.12 * size + 0.06 * own[2]) * (1 + 0.12 * narrow)
    down = 0.58 * (1 + 0.12 * size + 0.06 * own[3]) * (1 - 0.12 * narrow)
    pens = (0.034 * (1 + 0.2 * pen + 0.1 * own[4])).clamp(0.02, 0.05)
    shift = 0.025 * _bell((classes, drawings, 1, 1, 2), generator)
    stroke_noise = 0.035 * _bell((classes, drawings, STROKES, 1, 2), generator)
    step = programs.diff(dim=2).norm(dim=-1).mean(-1)[:, None, :, None, None]  # short strokes wobble less
    point_noise = 0.25 * step * _bell((classes, drawings, STROKES, CONTROLS, 2), generator)
    x, y = (programs[:, None] - 0.5 + stroke_noise + point_noise).unbind(-1)
    slant, turn, across, down = (value[..., None, None] for value in (slant, turn, across, down))
    x, y = across * (x + slant * y), down * y
    x, y = x - turn * y, y + turn * x
    return torch.stack([x, y], -1) + 0.5 + shift, pens


def render(strokes: Tensor, used: Tensor, pens: Tensor, image_size: int) -> Tensor:
    """Renders strokes as anti-aliased ink.

    Args:
        strokes: control points `[N, STROKES, CONTROLS, 2]` (x, y), as fractions of the image's side.
        used: booleans `[N, STROKES]` for the strokes in use.
        pens: the pens' radii `[N]`, as fractions of the image's side.

    Returns:
        uint8 `[N, 1, image_size, image_size]`.
    """
    image, stroke = used.nonzero(as_tuple=True)
    # Points are rounded to 1/64 pixel, so that all later steps are exact on every machine.
    curves = _grid(_spline(CONTROLS, 2 * image_size) @ strokes[image, stroke] * image_size)
    radius = _grid(pens * image_size)[image, None, None, None]
    reach = math.ceil(float(radius.max()) + 0.5)
    margin = 2 * reach + 1  # ink outside of the image lands in the margin and is cut off
    curves = curves.clamp(-reach, image_size + reach)
    around = torch.arange(-reach, reach + 1)
    corner = curves.floor()
    across, down = ((corner[..., axis, None] + around + 0.5 - curves[..., axis, None]) ** 2 for axis in (0, 1))
    ink = radius + 0.5 - (across[..., None, :] + down[..., :, None]).sqrt()
    side = image_size + 2 * margin
    column, row = (corner.int() + margin).unbind(-1)
    dot = (image[:, None].int() * side + row) * side + column
    near = (around[:, None] * side + around).int()
    canvas = torch.zeros(len(pens) * side**2)
    canvas.scatter_reduce_(0, (dot[..., None, None] + near).flatten().long(), ink.flatten(), "amax")
    inside = canvas.view(-1, 1, side, side)[..., margin:-margin, margin:-margin]
    return (inside.clamp(max=1) * 255).round().to(torch.uint8)


def _grid(x: Tensor) -> Tensor:
    return ((x * 64).round() / 64).float()


def _spline(controls: int, dots: int) -> Tensor:
    """Returns the weights `[dots, controls]` of a uniform cubic B-spline from the first to the last control point."""
    spans = controls + 1  # each end counts three times
    position = torch.linspace(0, spans, dots, dtype=torch.float64)
    span = position.floor().clamp_max(spans - 1)
    t = position - span
    basis = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    weights = torch.zeros(dots, controls, dtype=torch.float64)
    for offset in range(4):
        column = (span.long() + offset - 2).clamp(0, controls - 1)
        weights.scatter_add_(1, column[:, None], basis[:, offset, None])
    return weights


def _uniform(shape: tuple[int, ...] | torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _bell(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws nearly normal numbers of mean 0 and deviation 1. Sums of three uniforms are exact on every machine."""
    return (_uniform((3, *shape), generator).sum(0) - 1.5) * 2
