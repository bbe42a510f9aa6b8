"""tiered-ImageNet: 608 classes of ImageNet, split by the 34 categories above them. Ren et al., "Meta-Learning for
Semi-Supervised Few-Shot Classification", ICLR 2018."""

from __future__ import annotations

from collections.abc import Sequence

from ._registry import register
from .files.images import Transform
from .files.layouts import split_folders
from .published import Published, load
from .splits.data import Data
from .splits.split import Split

TIERED_IMAGENET = Published(
    name="tiered_imagenet",
    title="tiered-ImageNet",
    folder="tiered-imagenet",
    also=(),
    classes=(351, 97, 160),
    images=779165,
    layout="the class folders train/WNID/*.jpg, val and test, or train.tar, val.tar and test.tar of these",
    source=(
        'Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018, with images of ImageNet'
    ),
)


@register("tiered_imagenet")
def tiered_imagenet(
    root: str | None = None,
    image_size: int = 84,
    channels: int = 3,
    resample: str = "lanczos",
    crop: float = 1.0,
    mean: Sequence[float] = (),
    deviation: Sequence[float] = (),
) -> Data[Split]:
    """Photographs of 608 ImageNet classes, split 351 / 97 / 160 by the categories above them.

    Args:
        root: the folder that holds `tiered-imagenet/`, or that folder itself; by default `$FEWSHOT_KIT_DATA`, else the
            user's data folder. `tiered-imagenet/` has the class folders `train/WNID/*.jpg`, `val` and `test`, or tar
            archives of these. The pickled copies of others are not read, because opening a pickle can run any code.
        image_size, channels, resample, crop, mean, deviation: as for `mini_imagenet`. All images take 16.5 GB of memory
            in colour at 84 pixels, and 2.4 GB at 32.

    Raises:
        InputError: as `published.load` does.
    """
    transform = Transform(image_size, channels, False, resample, crop, tuple(mean), tuple(deviation))
    return load(TIERED_IMAGENET, root, transform, [split_folders])
