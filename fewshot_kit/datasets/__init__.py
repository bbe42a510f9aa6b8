"""Data sets by name: `datasets.create("omniglot")` has `.train`, `.validation` and `.test`."""

from . import (  # each registers its data set; the modules stay what these names mean
    folder,
    futurama,
    glyphs,
    omniglot,
    sinusoid,
)
from ._registry import create, get, names, register
from .any_dataset import from_dataset
from .data import Data
from .images import Transform, find_images, images_at, load_image_folder, load_images
from .roots import find_cache, find_root
from .split import Split

__all__ = [
    "Data",
    "Split",
    "Transform",
    "create",
    "find_cache",
    "find_images",
    "find_root",
    "folder",
    "from_dataset",
    "futurama",
    "get",
    "glyphs",
    "images_at",
    "load_image_folder",
    "load_images",
    "names",
    "omniglot",
    "register",
    "sinusoid",
]
