"""CIFAR-FS: the 100 classes of CIFAR-100 (Krizhevsky, 2009) with 600 images each, in one fixed random split by
Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, brief
from ._registry import register
from .files.images import Transform, images_at
from .files.layouts import PARTS, Part, files, split_folders
from .files.lists import read_text
from .published import Published, load
from .splits.data import Data
from .splits.split import Split

CIFAR_FS = Published(
    name="cifar_fs",
    title="CIFAR-FS",
    folder="cifar100",
    also=("cifar-fs",),
    classes=(64, 16, 20),
    images=60000,
    layout=(
        "data/CLASS/*.png with splits/bertinetto/train.txt, val.txt and test.txt, or the class folders "
        "meta-train/CLASS/*.png, meta-val and meta-test (or train, val and test)"
    ),
    source='Bertinetto et al., "Meta-learning with differentiable closed-form solvers", ICLR 2019',
)


@register("cifar_fs")
def cifar_fs(
    root: str | None = None,
    image_size: int = 32,
    channels: int = 3,
    resample: str = "lanczos",
    crop: float = 1.0,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Data[Split]:
    """Small photographs of the 100 classes of CIFAR-100, split 64 / 16 / 20 as by Bertinetto et al.

    Args:
        root: the folder that holds `cifar100/` or `cifar-fs/`, or that folder itself; by default `$FEWSHOT_KIT_DATA`,
            else the user's data folder. The data set's folder has `data/CLASS/*.png`, and the names of the classes in
            `splits/bertinetto/train.txt`, `val.txt` and `test.txt`; or it has the class folders
            `meta-train/CLASS/*.png`, `meta-val` and `meta-test`, also named `train`, `val` and `test`.
        image_size, channels, resample, crop, mean, deviation: as for `mini_imagenet`.

    Raises:
        InputError: as `published.load` does; a listed class that has no folder.
    """
    transform = Transform(image_size, channels, False, resample, crop, tuple(mean), tuple(deviation))
    return load(CIFAR_FS, root, transform, [split_lists, split_folders])


def split_lists(base: Path) -> list[Part | None]:
    """Finds the layout `data/CLASS/IMAGE`, with one class name per line in `splits/bertinetto/train.txt` and so on."""
    return [_listed(base / "splits" / "bertinetto" / f"{name}.txt", base / "data") for name in PARTS]


def _listed(file: Path, images: Path) -> Part | None:
    if not file.is_file():
        return None
    labels, paths = [], []
    folders = {path.name for path in images.iterdir() if path.is_dir()} if images.is_dir() else set()
    for name in dict.fromkeys(read_text(file).split()):
        if name not in folders:  # also for "..", which would list the images of other places
            raise InputError(f"{file} names class '{brief(name)}', but there is no such folder in {images}.")
        inside = images_at(images / name)
        labels += [name] * len(inside)
        paths += inside
    return files(file, labels, paths)
