"""The classification models of torchvision and timm by name: `models.create("torchvision/resnet18", ways=5)`.

Nothing of either library is imported before one of its names is asked for. timm is an extra: `pip install timm`.
Pretrained weights expect images normalised by ImageNet's mean and deviation; the kit's own data sets give values from
0 to 1, without that.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from .. import compat
from ..errors import InputError, first_line
from ..registry import closest
from ._making import check_sizes, initial_weights, to_be_filled
from ._registry import registry

# torchvision's networks for images of one size, by the start of their names, and the option that sets it.
FIXED_SIZE: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}
# Those with auxiliary heads, which would give their scores beside the model's while it trains.
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


def torchvision_model(
    name: str,
    /,
    ways: int = 5,
    channels: int = 3,
    image_size: int | None = None,
    pretrained: bool | str = False,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """The torchvision model of that name: `[N, channels, H, W]` -> scores `[N, ways]`.

    torchvision's networks take colour images. For other `channels` the first convolution is replaced by one with as
    many input channels: with PyTorch's default initial weights, or, of a pretrained one, with the mean over the three
    colours, scaled so that a grey image gives what it would give in colour.

    Args:
        ways: classes that the head tells apart.
        channels: of the image.
        image_size: height and width in pixels, for the networks that are made for images of one size (`vit_...`,
            `maxvit_t`; None: 224). The others take any that is not too small for them.
        pretrained: start from torchvision's weights, its default ones or those of a name (`"IMAGENET1K_V1"`). They are
            downloaded on first use. The head is a new one, unless `ways` is the number of classes it was trained on.
        seed: decides the initial weights; None draws them from PyTorch's global RNG.
        options: any others of torchvision's own, such as `dropout=0.0`.

    Raises:
        InputError: a size below 1, weights that do not exist or cannot be had, or what torchvision itself refuses.
    """
    known, label = compat.torchvision().models, f"torchvision/{name}"
    _check(label, ways, channels, image_size)
    for start, sized in FIXED_SIZE.items():
        if image_size is not None and name.startswith(start):
            options = sized(image_size) | options
    with initial_weights(seed), _said_by(label, pretrained), contextlib.redirect_stdout(sys.stderr):
        weights = _weights(known, name, pretrained)
        fetched = None if to_be_filled() else weights
        if name in AUXILIARY:
            # The pretrained ones take their images on another scale, and bring the heads with them.
            own = {} if fetched else {"aux_logits": False, "init_weights": True}
            options = {"transform_input": weights is not None and channels == 3} | own | options
        head = {} if fetched else {"num_classes": ways}
        model: nn.Module = known.get_model(name, weights=fetched, **head, **options)
        for auxiliary in AUXILIARY.get(name, ()):
            model.aux_logits = False  # type: ignore[assignment]
            setattr(model, auxiliary, None)
        if fetched:
            _set_head(model, ways)
        if channels != 3:
            _set_stem(model, channels, keep=bool(fetched))
    return model


def timm_model(
    name: str,
    /,
    ways: int = 5,
    channels: int = 3,
    image_size: int | None = None,
    pretrained: bool = False,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """The timm model of that name: `[N, channels, H, W]` -> scores `[N, ways]`.

    Args:
        ways: classes that the head tells apart (timm's `num_classes`).
        channels: of the image (timm's `in_chans`, which adapts pretrained weights too).
        image_size: height and width in pixels, for the networks that are made for images of one size (timm's
            `img_size`; None: their own). The others take any that is not too small for them.
        pretrained: start from timm's weights: those that the name ends with, as in `"timm/resnet18.a1_in1k"`, or the
            model's default ones. They are downloaded on first use.
        seed: decides the initial weights; None draws them from PyTorch's global RNG.
        options: any others of timm's own, such as `drop_rate=0.1`.

    Raises:
        InputError: a size below 1, weights that do not exist or cannot be had, or what timm itself refuses.
    """
    timm, label = _timm(), f"timm/{name}"
    _check(label, ways, channels, image_size)
    if not isinstance(pretrained, bool):
        raise InputError(
            f"pretrained={pretrained!r} is neither True nor False; the weights of '{label}' are chosen by its name, "
            "as in 'timm/resnet18.a1_in1k'."
        )
    if pretrained and not timm.is_model_pretrained(name):
        there = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise InputError(f"timm has no pretrained weights of '{name}'.{closest(name, there)}")
    with initial_weights(seed), _said_by(label, pretrained):
        if image_size is not None and getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
            options = {"img_size": image_size} | options
        fetched = pretrained and not to_be_filled()
        model: nn.Module = timm.create_model(name, pretrained=fetched, num_classes=ways, in_chans=channels, **options)
    return model


def _timm() -> ModuleType:
    compat.torchvision()  # timm imports it
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise InputError("timm, whose models 'timm/NAME' are, is not installed; pip install timm.") from None


def _check(label: str, ways: int, channels: int, image_size: int | None) -> None:
    check_sizes(label, ways=ways, channels=channels)
    if image_size is not None:
        check_sizes(label, image_size=image_size)


def _weights(known: ModuleType, name: str, pretrained: bool | str) -> Any:
    """torchvision's entry for the weights asked for; None for random ones."""
    if not pretrained:
        return None
    there = known.get_model_weights(name).__members__
    wanted = "DEFAULT" if pretrained is True else pretrained
    if wanted not in there:
        raise InputError(f"torchvision has no weights '{wanted}' of '{name}'; it has {', '.join(there)}.")
    return there[wanted]


@contextlib.contextmanager
def _said_by(label: str, pretrained: bool | str) -> Iterator[None]:
    """What another library refuses, in one sentence; the registry has one for options that do not exist."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # a download, and a model of a library's own, may fail in any way
        if isinstance(error, TypeError) and "keyword argument" in str(error):
            raise
        how = f" with pretrained={pretrained!r}" if pretrained else ""
        fix = "; get online once, or leave out pretrained" if pretrained and isinstance(error, OSError) else ""
        raise InputError(
            f"The model '{label}' cannot be made{how} ({type(error).__name__}: {first_line(error)}){fix}."
        ) from error


def _set_head(model: nn.Module, ways: int) -> None:
    """The last linear layer, or the convolution that takes its place, with `ways` outputs."""
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    name, head = layers[-1]
    bias = head.bias is not None
    if isinstance(head, nn.Linear) and head.out_features != ways:
        _set(model, name, nn.Linear(head.in_features, ways, bias))
    elif isinstance(head, nn.Conv2d) and head.out_channels != ways:
        _set(model, name, nn.Conv2d(head.in_channels, ways, head.kernel_size, bias=bias))  # type: ignore[arg-type]


def _set_stem(model: nn.Module, channels: int, keep: bool) -> None:
    """The first convolution, for another number of channels; its weights are kept as their mean over the colours."""
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


def _torchvision_names() -> list[str]:
    known = compat.torchvision().models
    names: list[str] = known.list_models(known)
    return names


def _timm_names() -> list[str]:
    names: list[str] = _timm().list_models()
    return names


registry.add_library("torchvision", _torchvision_names, torchvision_model)
registry.add_library("timm", _timm_names, timm_model)
