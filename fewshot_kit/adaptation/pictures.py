"""Turns images of any kind, size and order of axes into a network's inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ..datasets.files.images import Transform, _plain, load_images, opened_image
from ..errors import InputError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

Array = Tensor | np.ndarray
IMAGES = {1, 3, 4}  # channels that make an array an image: grey, colour, colour and alpha
OTHERS = (nn.Linear, nn.Bilinear, nn.Embedding, nn.RNNBase, nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d)


def channels_of(model: nn.Module) -> int | None:
    """Returns the input channels of a network's first convolution, or None if another layer comes before it."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels or None  # a lazy one has 0 before its first image
        if isinstance(module, OTHERS):
            return None
    return None


def unprepared(found: Array | Sequence[Any], channels: int | None) -> Tensor:
    """Returns examples without a transform as `[N, ...]`: images as `[N, C, H, W]`, uint8 ones scaled to [0, 1].

    Args:
        found: a batch `[N, ...]`, a list of arrays, or a list of Pillow images and paths.
        channels: channels of the images that the network takes, if they are known.

    Raises:
        InputError: as `inputs.read_examples`.
    """
    if isinstance(found, Tensor | np.ndarray):
        batch = found
    elif isinstance(found[0], Tensor | np.ndarray):
        batch = stacked(found)
    else:
        images = [pixels_of(image, number, lambda i: upright(i, channels)) for number, image in enumerate(found)]
        most = max(map(len, images))  # grey images among colour ones get three channels too
        batch = stacked([np.broadcast_to(image, (most, *image.shape[1:])) for image in images])
    scale = batch.dtype in (torch.uint8, np.uint8)
    if batch.ndim == 4 and (channels is not None or (scale and isinstance(batch, np.ndarray))):
        batch = _channels_first(batch, channels)
    if batch.ndim == 3 and scale and channels is not None:
        _refuse_one_image(batch, channels)
        batch = batch[:, None]
    if batch.ndim == 4 and scale and channels in (1, 3) and batch.shape[1] == 4 and len(batch):
        batch = np.stack([upright(_picture(image), channels) for image in batch])
    x = _tensor(batch)
    return x.to(torch.get_default_dtype()) / 255 if scale else x


def prepared(found: Array | Sequence[Any], transform: Transform) -> Tensor:
    """Returns examples after a transform, `[N, C, H, W]`. Arguments and errors are those of `unprepared`."""
    if not len(found):
        return torch.empty(0, *transform.shape)
    if isinstance(found, Tensor) and found.dtype == torch.uint8 and tuple(found.shape[1:]) == transform.shape:
        return transform.scaled(found.cpu())  # decoded already, as `load_images` and a data set do
    if isinstance(found, Tensor | np.ndarray):
        if found.ndim == 3:
            _refuse_one_image(found, transform.channels)
        found = _channels_first(found, transform.channels) if found.ndim == 4 else found
        arrays: Sequence[Array] = [found]
    elif isinstance(found[0], Tensor | np.ndarray):
        arrays = found
    elif all(isinstance(item, Path) for item in found):
        return transform.scaled(load_images(found, transform))
    else:
        return transform.scaled(
            _tensor(np.stack([pixels_of(image, number, transform) for number, image in enumerate(found)]))
        )
    floats = [array for array in arrays if _is_float(array)]
    low = min((float(array.min()) for array in floats), default=0.0)
    high = max((float(array.max()) for array in floats), default=0.0)
    if low >= 0 and 16 < high <= 255:  # normalised images have neither range
        raise InputError(f"The float images hold values from {low:g} to {high:g}; give uint8 ones, or divide by 255.")
    raw = low >= 0 and high <= 1
    return _tensor(stacked([_seen(image, number, transform, raw) for number, image in enumerate(found)]))


def _seen(image: Array, number: int, transform: Transform, raw: bool) -> Tensor:
    """Returns one example as the network takes it. `raw` means that the caller has not prepared float images."""
    if _is_float(image) and not raw:
        return _tensor(_channels_first(image, transform.channels) if image.ndim == 3 else image)
    if image.ndim == 2:
        image = image[None]
    elif image.ndim == 3:
        image = _channels_first(image, transform.channels)
    if image.ndim != 3 or image.shape[0] not in IMAGES:
        raise InputError(
            f"Example {number} has shape {list(image.shape)}; an image has shape [H, W], or 1, 3 or 4 channels."
        )
    if _is_float(image) and tuple(image.shape) == transform.shape:
        return transform.normalised(_tensor(image))
    return transform.scaled(_tensor(transform(_picture(_as_bytes(image, number)))))


def stacked(items: Sequence[Array]) -> Array:
    """Stacks arrays or tensors of one shape. Raises `InputError` for the first one of another shape."""
    first = tuple(items[0].shape)
    odd = next((number for number, item in enumerate(items) if tuple(item.shape) != first), None)
    if odd is not None:
        raise InputError(
            f"Example {odd} has shape {list(items[odd].shape)}, the first one {list(first)}; bring all to one size, or "
            "take a network that brings its own, as those of timm and torchvision do."
        )
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    return np.stack(arrays) if len(arrays) == len(items) else torch.stack([_tensor(item) for item in items])


def _channels_first(images: Any, channels: int | None) -> Any:
    """Returns `[..., H, W, C]` as `[..., C, H, W]`. Images with channels first or without channels stay as they are."""
    first, last = images.shape[-3], images.shape[-1]
    likely = next((likely for likely in ({channels}, IMAGES) if {first, last} & likely), {first})
    if first in likely:
        return images
    if isinstance(images, Tensor):
        order = "0, 3, 1, 2" if images.ndim == 4 else "2, 0, 1"
        raise InputError(
            f"The tensor of shape {list(images.shape)} has its {last} channel{'s' * (last > 1)} last, and torch has "
            f"them first; give x.permute({order})."
        )
    return np.moveaxis(images, -1, -3)


def _refuse_one_image(batch: Array, channels: int) -> None:
    shape = list(batch.shape)
    if shape[-1] in (3, 4) or shape[0] == channels > 1:
        raise InputError(
            f"Shape {shape} may be one image in colour or {shape[0]} grey ones; give x[None] for the one, "
            f"x[:, None] for the {shape[0]}."
        )


def _as_bytes(image: Array, number: int) -> np.ndarray:
    """Returns floats from 0 to 1, bools, or whole numbers from 0 to 255 as uint8."""
    array = np.asarray(image.float() if isinstance(image, Tensor) and _is_float(image) else image)  # bfloat16 too
    if array.dtype.kind in "bf":
        return (array * np.float64(255)).round().astype(np.uint8)
    if array.min() < 0 or array.max() > 255:
        raise InputError(f"Example {number} holds {array.min()} to {array.max()}; an image has values from 0 to 255.")
    return array.astype(np.uint8)


def _picture(image: Array) -> Image:
    """Returns a Pillow image from uint8 `[C, H, W]`."""
    from PIL import Image as Pillow

    array = np.asarray(image)
    return Pillow.fromarray(np.ascontiguousarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0)))


def upright(image: Image, channels: int | None) -> np.ndarray:
    """Returns a Pillow image as uint8 `[C, H, W]` at its own size, read as `Transform` reads it."""
    from PIL import ImageOps

    image = _plain(ImageOps.exif_transpose(image))
    grey = channels == 1 or (channels is None and image.mode in ("1", "L"))
    pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def pixels_of(source: Image | Path, number: int, how: Callable[[Image], np.ndarray]) -> np.ndarray:
    """Returns the pixels that `how` gives for a Pillow image or an image file.

    Raises:
        InputError: an image that cannot be read (named).
    """
    if isinstance(source, Path):
        with opened_image(source, str(source)) as image:
            return how(image)
    name = getattr(source, "filename", "") or f"number {number}"
    try:
        return how(source)
    except Exception as error:  # Pillow decodes it only now, and decoders of damaged files fail in any way
        raise InputError(f"The image {name} cannot be read ({first_line(error)}); replace or remove it.") from None


def is_picture(x: Any) -> bool:
    """Returns whether it is a Pillow image."""
    from PIL import Image as Pillow

    return isinstance(x, Pillow.Image)


def _is_float(array: Array) -> bool:
    return array.is_floating_point() if isinstance(array, Tensor) else array.dtype.kind == "f"


def _tensor(array: Array) -> Tensor:
    if isinstance(array, Tensor):
        return array
    # The copy has the machine's byte order, because torch takes no other. A read-only array would give a warning.
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
