"""torchvision's classification models: `models.create("torchvision/resnet18", ways=5)`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .. import compat
from ..datasets.files.images import Transform
from ..errors import InputError
from . import downloads
from .initial_weights import initial_weights, to_be_filled
from .library_options import check, head_of, said_by
from .own_images import by_torchvision
from .weights import load_weights

# torchvision's networks that take images of one size only: start of the name -> options that set the size.
FIXED_SIZE: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}
# Networks with auxiliary heads, which would return their own scores beside the model's in training mode.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def torchvision_model(
    name: str,
    /,
    ways: int = 5,
    channels: int = 3,
    image_size: int | None = None,
    pretrained: bool | str = False,
    weights: str | Path | None = None,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """Returns the torchvision model of that name: `[N, channels, H, W]` -> scores `[N, ways]`.

    torchvision's networks take colour images. For another number of channels, the first convolution is replaced. The
    new one has PyTorch's default initial weights; in a pretrained network it has the mean of the old weights over the
    three colours, scaled so that a grey image gives the same output as in colour.

    Args:
        name: torchvision's name of the model.
        ways: number of classes that the head tells apart.
        channels: number of channels of the image.
        image_size: height and width in pixels, for networks that take images of one size only (`vit_...`, `maxvit_t`;
            None is 224). The other networks take any size that is not too small for them.
        pretrained: start from torchvision's weights: True for the default ones, or a name such as `"IMAGENET1K_V1"`.
            They are downloaded on first use. The head is new, unless `ways` is the number of classes that it was
            trained on.
        weights: start from the weights in this file (`load_weights`); the head is new in the same case.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.
        options: other options of torchvision's own, such as `dropout=0.0`.

    Raises:
        InputError: a size is below 1, weights do not exist or cannot be downloaded, a file does not fit, or torchvision
            itself refuses the options.
    """
    known, label = compat.torchvision().models, f"torchvision/{name}"
    check(label, ways, channels, image_size, pretrained, weights, options)
    for start, sized in FIXED_SIZE.items():
        if image_size is not None and name.startswith(start):
            options = sized(image_size) | options
    with initial_weights(seed), said_by(label, pretrained), contextlib.redirect_stdout(sys.stderr):
        entry = _weights(known, name, pretrained)
        fetched = None if to_be_filled() else entry
        if name in AUXILIARY:
            # Networks with weights expect images on another scale (`transform_input`). Downloaded weights include the
            # auxiliary heads.
            own = {} if fetched else {"aux_logits": False, "init_weights": True}
            options = {"transform_input": bool(entry or weights) and channels == 3} | own | options
        head = {} if fetched else {"num_classes": ways}
        with downloads.from_url(fetched.url) if fetched else contextlib.nullcontext():
            model: nn.Module = known.get_model(name, weights=fetched, **head, **options)
        for auxiliary in AUXILIARY.get(name, ()):
            model.aux_logits = False  # type: ignore[assignment]
            setattr(model, auxiliary, None)
        if fetched:
            _set_head(model, ways)
        if channels != 3:
            _set_stem(model, channels, keep=bool(fetched))
    if weights and not to_be_filled():
        load_weights(model, weights, label, [head_of(model)[0]], AUXILIARY.get(name, ()))
    model.own_images = torchvision_images(name, channels, image_size, pretrained, weights)  # type: ignore[assignment]
    return model


def torchvision_images(
    name: str,
    /,
    channels: int = 3,
    image_size: int | None = None,
    pretrained: bool | str = False,
    weights: str | Path | None = None,
    **options: Any,
) -> Transform | None:
    """Returns the images that `images_of` gives for the network made with these options; None without weights."""
    entry = _weights(compat.torchvision().models, name, pretrained or bool(weights))
    return by_torchvision(entry, channels, image_size) if entry else None


def torchvision_names() -> list[str]:
    known = compat.torchvision().models
    names: list[str] = known.list_models(known)
    return names


def _weights(known: ModuleType, name: str, pretrained: bool | str) -> Any:
    """Returns torchvision's entry for the requested weights; None for random initial weights."""
    if not pretrained:
        return None
    there = known.get_model_weights(name).__members__
    wanted = "DEFAULT" if pretrained is True else pretrained
    if wanted not in there:
        raise InputError(f"torchvision has no weights '{wanted}' of '{name}'; it has {', '.join(there)}.")
    return there[wanted]


def _set_head(model: nn.Module, ways: int) -> None:
    name, head = head_of(model)
    bias = head.bias is not None
    if isinstance(head, nn.Linear) and head.out_features != ways:
        _set(model, name, nn.Linear(head.in_features, ways, bias))
    elif isinstance(head, nn.Conv2d) and head.out_channels != ways:
        _set(model, name, nn.Conv2d(head.in_channels, ways, head.kernel_size, bias=bias))  # type: ignore[arg-type]


def _set_stem(model: nn.Module, channels: int, keep: bool) -> None:
    """Replaces the first convolution for another number of channels; `keep` keeps the weights' mean over colours."""
    name, old = next((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d))
    settings = {key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation", "groups")}
    stem = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **settings)
    if keep:
        with torch.no_grad():
            stem.weight.copy_(old.weight.sum(1, keepdim=True) / channels)
            if stem.bias is not None and old.bias is not None:
                stem.bias.copy_(old.bias)
    _set(model, name, stem)


def _set(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
