"""Data sets by name: `datasets.create("omniglot")` has `.train`, `.validation` and `.test`."""

from . import (  # each module registers its data set; these names stay modules
    cifar_fs,
    cub,
    folder,
    futurama,
    glyphs,
    mini_imagenet,
    omniglot,
    sinusoid,
    tiered_imagenet,
)
from ._registry import create, get, names, register
from .any_dataset import from_dataset
from .files.cache import cached_files
from .files.images import Transform, find_images, images_at, load_image_folder, load_images
from .files.roots import find_cache, find_root
from .splits.data import Data
from .splits.split import Split

__all__ = [
    "Data",
    "Split",
    "Transform",
    "cached_files",
    "cifar_fs",
    "create",
    "cub",
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
    "mini_imagenet",
    "names",
    "omniglot",
    "register",
    "sinusoid",
    "tiered_imagenet",
]
