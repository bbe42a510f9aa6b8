"""mini-ImageNet: 100 classes of ImageNet with 600 images each, by Vinyals et al., "Matching Networks for One Shot
Learning", NeurIPS 2016. The split is that of Ravi and Larochelle, "Optimization as a Model for Few-Shot Learning",
ICLR 2017."""

from __future__ import annotations

from collections.abc import Sequence

from ._registry import register
from .files.images import Transform
from .files.layouts import split_csv, split_folders
from .published import Published, load
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
            user's data folder. `mini-imagenet/` has the class folders `train/WNID/*.jpg`, `val` and `test`; or tar
            archives of these, `train.tar`, `val.tar` and `test.tar`, which are not unpacked; or `images/*.jpg` with
            `train.csv`, `val.csv` and `test.csv`, whose lines are `filename,label`.
        image_size: pixels of each side; other than square images are cropped at their centre.
        channels: 3 for colour, 1 for grey.
        resample: how images are resized, see `Transform`.
        crop, mean, deviation: see `Transform`. `models.image_options` has the values for a network with weights.

    With fewer than 600 images of a class, the names of the data set and its splits say that it is a subset.

    Raises:
        InputError: as `published.load` does.
    """
    transform = Transform(image_size, channels, False, resample, crop, tuple(mean), tuple(deviation))
    return load(MINI_IMAGENET, root, transform, [split_folders, split_csv])
