"""Turns image files into uint8 tensors, with a transform that runs record."""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError, first_line
from .decoding import decode_all

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
RESAMPLE = ("lanczos", "bicubic", "bilinear", "box", "nearest")
ORIENTATION = 0x0112  # the EXIF tag
LARGEST_FILE = 600_000_000  # bytes; the largest photo that Pillow decodes has less, at 16 bits and uncompressed


LONGEST_SIDE = 1_000_000  # pixels of an image file; Pillow takes ten times the bytes of an image of narrow rows
LARGEST_SIZE = 10_000  # pixels that an image is resized to


@dataclass(frozen=True)
class Transform:
    """Turns an image into a tensor. `dataclasses.asdict` returns the settings that a run folder records.

    Args:
        image_size: pixels of each side; other than square images are cropped at their centre.
        channels: 1 for grey, 3 for colour.
        invert: turn dark ink on white paper into bright ink on black.
        resample: one of `RESAMPLE`; all but `"nearest"` are antialiased.
        crop: the fraction of each side that is kept, at the centre, before resizing. Many networks with weights expect
            0.875.
        mean, deviation: one of each per channel, on the scale of 0 to 1. The network gets (image - mean) / deviation,
            or the image from 0 to 1 if both are empty.

    Raises:
        InputError: a size below 1 or above 10,000; other channels; an unknown way of resampling; a crop outside of
            (0, 1]; not one mean and deviation per channel.
    """

    image_size: int
    channels: int = 1
    invert: bool = False
    resample: str = "lanczos"
    crop: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= LARGEST_SIZE:
            raise InputError(f"image_size is {self.image_size}; it must be 1 to {LARGEST_SIZE:,} pixels.")
        if self.channels not in (1, 3):
            raise InputError(f"channels is {self.channels}; it must be 1 (grey) or 3 (colour).")
        if self.resample not in RESAMPLE:
            raise InputError(f"Unknown resample '{self.resample}'; it is one of {', '.join(RESAMPLE)}.")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop is {self.crop}; it must be above 0 and at most 1.")
        for name in ("mean", "deviation"):
            values = tuple(getattr(self, name))  # a run's config.yaml holds lists
            if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
                raise InputError(f"{name} is {list(values)}; it must hold numbers.")
            object.__setattr__(self, name, values)
        if len(self.mean) != len(self.deviation) or len(self.mean) not in (0, self.channels) or 0 in self.deviation:
            raise InputError(
                f"mean {self.mean} and deviation {self.deviation} must have a number for each of the "
                f"{self.channels} channels, and no deviation may be 0."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(channels, image_size, image_size)`."""
        return self.channels, self.image_size, self.image_size

    def __call__(self, image: Image) -> np.ndarray:
        """Returns a Pillow image as uint8 `[channels, image_size, image_size]`."""
        from PIL import Image as Pillow
        from PIL import ImageOps

        if image.getexif().get(ORIENTATION, 1) != 1:  # exif_transpose would copy an upright image
            image = ImageOps.exif_transpose(image)
        # The image is converted before resizing, because Pillow always resizes 1-bit images by NEAREST.
        image, mode = _plain(image), "L" if self.channels == 1 else "RGB"
        image.load()  # which may change the mode
        image = image if image.mode == mode else image.convert(mode)  # convert() always copies
        size, margin = (self.image_size, self.image_size), (1 - self.crop) / 2
        how = getattr(Pillow.Resampling, self.resample.upper())
        pixels = np.asarray(ImageOps.fit(image, size, how, bleed=margin))
        pixels = pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1)
        return 255 - pixels if self.invert else pixels

    def made(self, x: Tensor, count: int) -> bool:
        """Returns whether a tensor has the form of `count` images that this transform made."""
        return x.dtype == torch.uint8 and x.shape == (count, *self.shape)

    def scaled(self, x: Tensor) -> Tensor:
        """Returns uint8 images `[..., C, H, W]` as a network takes them: floats from 0 to 1, then normalised."""
        # The divisor is a tensor: CUDA would multiply by the reciprocal of a number, and differ from a CPU.
        return self.normalised(x.to(torch.float32).div_(torch.full((), 255.0, device=x.device)))

    def normalised(self, x: Tensor) -> Tensor:
        """Returns (x - mean) / deviation for float images `[..., C, H, W]` from 0 to 1."""
        if not self.mean:
            return x
        mean, deviation = (x.new_tensor(values)[:, None, None] for values in (self.mean, self.deviation))
        return (x - mean) / deviation


def _plain(image: Image) -> Image:
    """Returns the image with 8 bits in place of 16, and with white in place of transparency."""
    from PIL import Image as Pillow

    if image.mode.startswith("I"):
        return Pillow.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA"):
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        return Pillow.alpha_composite(Pillow.new("RGBA", image.size, "white"), image)
    return image


def decode(source: Path | str | bytes, transform: Transform, name: str) -> np.ndarray:
    """Decodes an image file or its bytes to uint8 `[channels, image_size, image_size]`.

    Raises:
        InputError: as `opened_image` does.
    """
    enough = 2 * math.ceil(transform.image_size / transform.crop)
    with opened_image(source, name, enough) as image:
        return transform(image)


@contextlib.contextmanager
def opened_image(source: Path | str | bytes, name: str, enough: int | None = None) -> Iterator[Image]:
    """Context that opens an image file, or its bytes. It looks at sizes before it decodes anything, to bound memory.

    Args:
        name: names the image in messages.
        enough: pixels of the shorter side that are enough. A JPEG that is beyond Pillow's limit is decoded at a
            fraction of its size then; other images are refused.

    Raises:
        InputError: the file is missing, no image, corrupt, truncated or too large (named). Whatever fails within the
            context is reported so, because Pillow decodes an image only when its pixels are asked for.
    """
    from PIL import Image as Pillow

    try:
        if not isinstance(source, bytes):
            status = os.stat(source)
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
                raise ValueError("it is no file")
            check_size(status.st_size)
        with Pillow.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            most = Pillow.MAX_IMAGE_PIXELS or math.inf  # None is a user's own wish
            if enough is not None and image.width * image.height > most:
                image.draft(None, (enough, enough))
            if image.width * image.height > most or max(image.size) > LONGEST_SIDE:
                size = f"{image.width:,} x {image.height:,} pixels"
                raise ValueError(f"{size} are more than {most:,}, or than {LONGEST_SIDE:,} on a side")
            yield image
    except FileNotFoundError:
        raise InputError(f"There is no image {name}.") from None
    except Exception as error:  # decoders of damaged files fail in any way
        raise InputError(f"The image {name} cannot be read ({first_line(error)}); replace or remove it.") from None


def check_size(size: int) -> None:
    """Raises `ValueError` for an image file of more bytes than images have."""
    if size > LARGEST_FILE:
        raise ValueError(f"{size:,} bytes are more than the {LARGEST_FILE:,} of the largest image")


def load_images(paths: Sequence[Path | str], transform: Transform) -> Tensor:
    """Loads image files as uint8 `[N, C, H, W]`.

    Raises:
        InputError: no paths; an image that is missing, corrupt or truncated (named).
    """
    if not paths:
        raise InputError("There are no images to load.")
    return decode_all(paths, lambda path: decode(path, transform, str(path)), transform.shape, "decoding images")


def find_images(folder: Path | str) -> tuple[list[str], list[Path]]:
    """Returns the class name and the path of every image in a folder of class folders, sorted.

    Images may lie deeper inside a class folder. Hidden files and other files than images are skipped.

    Raises:
        InputError: no such folder; no images in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    labels: list[str] = []
    paths: list[Path] = []
    for child in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        inside = _images_in(child)
        labels += [class_name(child.name)] * len(inside)
        paths += inside
    if not paths:
        raise InputError(f"The folder {folder} has no images in class folders; put them as {folder}/CLASS/IMAGE.png.")
    return labels, paths


def class_name(folder: str) -> str:
    """Returns a folder's name as text that a run can record: bytes that are no UTF-8 are written out, as `\\xe9`."""
    return os.fsencode(folder).decode("utf-8", "backslashreplace")


def load_image_folder(folder: Path | str, transform: Transform) -> tuple[Tensor, list[str], list[Path]]:
    """Loads a folder of class folders: images uint8 `[N, C, H, W]`, and the class name and the path of each.

    Raises:
        InputError: no such folder; no images in it; a corrupt or truncated image (named).
    """
    labels, paths = find_images(folder)
    return load_images(paths, transform), labels, paths


def images_at(place: Path | str) -> list[Path]:
    """Returns the image file itself, or all images in a folder and below it, sorted, without hidden files.

    Raises:
        InputError: a folder without images.
    """
    place = Path(place)
    if not place.is_dir():
        return [place]
    inside = _images_in(place)
    if not inside:
        raise InputError(f"The folder {place} has no images.")
    return inside


def _images_in(folder: Path) -> list[Path]:
    # os.walk on strings takes a third of pathlib's time, and a folder data set lists its images at every start.
    found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names if _is_image(name)]
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep)) if os.path.isfile(path)]


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def from_any(image: Any) -> Tensor:
    """Returns an example of any Dataset as a tensor: a Pillow image as `[C, H, W]`, arrays and tensors as they are.

    A uint8 array `[H, W]` gets a channel. A uint8 array whose last axis has 1, 3 or 4 entries is taken as `[H, W, C]`.
    """
    if isinstance(image, Tensor):
        return image
    if hasattr(image, "convert"):  # a Pillow image
        image = np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    array = np.asarray(image)
    if array.dtype == np.uint8 and array.ndim == 2:
        array = array[None]
    elif array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] in (1, 3, 4):
        array = array.transpose(2, 0, 1)
    return torch.tensor(array)
