"""The images that a network with weights was trained on: their size, interpolation, crop, mean and deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from ..datasets.files.images import RESAMPLE, Transform


def images_of(model: nn.Module) -> Transform | None:
    """Returns the transform from image files to the images that a network with weights expects.

    timm or torchvision describe these images. They are known for networks made by name with `weights` or `pretrained`,
    and for networks that timm itself has made. A network with one channel gets grey images; their mean and deviation
    are the averages of the three colours' values.

    Returns:
        The transform; None if nothing is known, or the network has neither one channel nor three.
    """
    if "own_images" in vars(model):
        return vars(model)["own_images"]
    described = getattr(model, "pretrained_cfg", None)
    if not isinstance(described, Mapping):
        return None
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    sizes = getattr(getattr(model, "patch_embed", None), "img_size", None)  # set in networks that take one size only
    return by_timm(described, channels, sizes[0] if sizes else None)


def image_options(model: nn.Module) -> dict[str, Any]:
    """Returns the options by which a data set of photos fits a network with weights; empty if `images_of` is None.

    Example: `datasets.create("mini_imagenet", **models.image_options(model))`
    """
    images = images_of(model)
    return as_options(images) if images else {}


def as_options(images: Transform) -> dict[str, Any]:
    """Returns the options by which a data set of photos decodes its images with this transform."""
    return {name: value for name, value in asdict(images).items() if name != "invert"}


def by_timm(config: Mapping[str, Any], channels: int, image_size: int | None) -> Transform | None:
    """Returns the images that timm's `pretrained_cfg` describes; None if it describes none."""
    if not config.get("mean"):
        return None
    size = image_size or config["input_size"][-1]
    return _transform(size, channels, config["interpolation"], config["crop_pct"], config["mean"], config["std"])


def by_torchvision(entry: Any, channels: int, image_size: int | None) -> Transform | None:
    """Returns the images that an entry of torchvision's enumerations of weights describes."""
    preset = entry.transforms()
    (crop,), (resized,) = preset.crop_size, preset.resize_size
    how = preset.interpolation.value
    return _transform(image_size or crop, channels, how, crop / resized, preset.mean, preset.std)


def _transform(size: int, channels: int, how: str, crop: float, mean: Any, deviation: Any) -> Transform | None:
    if channels not in (1, 3):
        return None
    if channels == 1:
        mean, deviation = ([sum(values) / len(values)] for values in (mean, deviation))
    resample, crop = how if how in RESAMPLE else "bicubic", min(crop, 1.0)  # volo's crops are above 1, with a border
    return Transform(size, channels, resample=resample, crop=crop, mean=tuple(mean), deviation=tuple(deviation))
