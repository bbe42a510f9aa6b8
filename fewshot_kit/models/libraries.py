"""The models of torchvision and timm by name: `models.create("torchvision/resnet18", ways=5)`.

Nothing of either library is imported before one of its names is asked for. Networks with weights expect images of a
size, mean and deviation of their own: `images_of` has them.
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
    """What `images_of` will say of the network of that name made with these options, without making it."""
    library, _, rest = registry.full_name(name).partition("/")
    described = {"torchvision": torchvision_images, "timm": timm_images}.get(library)
    return described(rest, **options) if described else None
