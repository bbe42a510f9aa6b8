"""Vinyals et al., "Matching Networks for One Shot Learning", NeurIPS 2016: 100 classes of ImageNet with 600 images
each; split by Ravi and Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017."""

from __future__ import annotations

from collections.abc import Sequence

from ._registry import register
from .files.images import Transform
from .published import Published, load, split_csv, split_folders
from .splits.data import Data
from .splits.split import Split

MINI_IMAGENET = Published(
    name="mini_imagenet",
    title="mini-ImageNet",
    folder="mini-imagenet",
    also=(),
    classes=(64, 16, 20),
    images=60000,
    layout=(
        "the class folders train/WNID/*.jpg, val and test, or train.tar, val.tar and test.tar of these, or "
        "images/*.jpg with train.csv, val.csv and test.csv of filename,label"
    ),
    source='Ravi and Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017, with images of ImageNet',
)


@register("mini_imagenet")
def mini_imagenet(
    root: str | None = None,
    image_size: int = 84,
    channels: int = 3,
    resample: str = "lanczos",
    crop: float = 1.0,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Data[Split]:
    """Photographs of 100 ImageNet classes, split 64 / 16 / 20 as by Ravi and Larochelle.

    Args:
        root: the folder that holds `mini-imagenet/`, or that folder itself; by default `$FEWSHOT_KIT_DATA`, else the
            user's data folder. It has the class folders `train/WNID/*.jpg`, `val` and `test`; or tar archives of
            these, `train.tar`, `val.tar` and `test.tar`, which are read as they are; or `images/*.jpg` with
            `train.csv`, `val.csv` and `test.csv` of `filename,label`.
        image_size: pixels of each side; what is not square is cropped at its centre.
        channels: 3 for colour, 1 for grey.
        resample: how images are resized, see `Transform`.
        crop, mean, deviation: as networks with weights expect their images, see `Transform`; `models.image_options` has
            them for a network.

    Fewer than 600 images of a class are a subset; the names of the data set and its splits then say so.

    Raises:
        InputError: as `published.load` does.
    """
    transform = Transform(image_size, channels, False, resample, crop, tuple(mean), tuple(deviation))
    return load(MINI_IMAGENET, root, transform, [split_folders, split_csv])
