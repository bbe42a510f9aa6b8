"""The models of torchvision and timm by name: `models.create("torchvision/resnet18", ways=5)`.

Neither library is imported before one of its names is used. Networks with weights expect images of a certain size, mean
and deviation, which `images_of` returns.
"""

from __future__ import annotations

from typing import Any

from ..datasets.files.images import Transform
from ._registry import registry
from .from_timm import timm_images, timm_model, timm_names
from .from_torchvision import torchvision_images, torchvision_model, torchvision_names

registry.add_library("torchvision", torchvision_names, torchvision_model)
registry.add_library("timm", timm_names, timm_model)


def images_for(name: str, /, **options: Any) -> Transform | None:
    """Returns the images that `images_of` gives for the network of that name and options, without making it."""
    library, _, rest = registry.full_name(name).partition("/")
    described = {"torchvision": torchvision_images, "timm": timm_images}.get(library)
    return described(rest, **options) if described else None
