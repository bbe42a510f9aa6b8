"""timm's models: `models.create("timm/convnext_atto", ways=5)`. timm is an optional dependency: `pip install timm`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from .. import compat
from ..datasets.files.images import Transform
from ..errors import InputError, closest
from . import downloads
from .initial_weights import initial_weights, to_be_filled
from .library_options import check, head_of, said_by
from .own_images import by_timm
from .weights import load_weights


def timm_model(
    name: str,
    /,
    ways: int = 5,
    channels: int = 3,
    image_size: int | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """Returns the timm model of that name: `[N, channels, H, W]` -> scores `[N, ways]`.

    Args:
        name: timm's name of the model.
        ways: number of classes that the head tells apart (timm's `num_classes`).
        channels: number of channels of the image (timm's `in_chans`, which adapts pretrained weights too).
        image_size: height and width in pixels, for networks that take images of one size only (timm's `img_size`;
            None is their own size). The other networks take any size that is not too small for them.
        pretrained: start from timm's weights. A name may say which, as in `"timm/resnet18.a1_in1k"`; otherwise they are
            the model's default ones. They are downloaded on first use. The head is new, unless `ways` is the number
            of classes that it was trained on.
        weights: start from the weights in this file (`load_weights`); the head is new in the same case.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.
        options: other options of timm's own, such as `drop_rate=0.1`.

    Raises:
        InputError: a size is below 1, weights do not exist or cannot be downloaded, a file does not fit, or timm itself
            refuses the options.
    """
    timm, label = _timm(), f"timm/{name}"
    check(label, ways, channels, image_size, pretrained, weights, options)
    if not isinstance(pretrained, bool):
        raise InputError(
            f"pretrained={pretrained!r} is neither True nor False; the weights of '{label}' are chosen by its name, "
            "as in 'timm/resnet18.a1_in1k'."
        )
    if pretrained and not timm.is_model_pretrained(name):
        there = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise InputError(f"timm has no pretrained weights of '{name}'.{closest(name, there)}")
    config = _config(name)
    with initial_weights(seed), said_by(label, pretrained):
        if image_size is not None and config.get("fixed_input_size"):
            options = {"img_size": image_size} | options
        options |= {"num_classes": ways, "in_chans": channels}
        if not pretrained or to_be_filled():
            model: nn.Module = timm.create_model(name, **options)
        elif config.get("hf_hub_id"):
            with downloads.from_hub(config) as kept:
                model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=kept, **options)
        else:
            with downloads.from_url(config["url"]):
                model = timm.create_model(name, pretrained=True, **options)
    if weights and not to_be_filled():
        heads = config.get("classifier") or head_of(model)[0]
        load_weights(model, weights, label, [heads] if isinstance(heads, str) else heads)
    model.own_images = timm_images(name, channels, image_size, pretrained, weights)  # type: ignore[assignment]
    return model


def timm_images(
    name: str,
    /,
    channels: int = 3,
    image_size: int | None = None,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **options: Any,
) -> Transform | None:
    """Returns the images that `images_of` gives for the network made with these options; None without weights."""
    return by_timm(_config(name), channels, image_size) if pretrained or weights else None


def timm_names() -> list[str]:
    names: list[str] = _timm().list_models()
    return names


def _config(name: str) -> dict[str, Any]:
    """Returns timm's configuration of the weights of that name, which describes their images too."""
    timm = _timm()
    with said_by(f"timm/{name}"):
        found = timm.get_pretrained_cfg(name)
    return found.to_dict() if found else {}


def _timm() -> ModuleType:
    compat.torchvision()  # timm imports it
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise InputError("timm, whose models 'timm/NAME' are, is not installed; pip install timm.") from None
