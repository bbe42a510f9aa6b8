"""Omniglot: 1623 characters of 50 alphabets, each drawn by 20 people. Lake, Salakhutdinov and Tenenbaum, "Human-level
concept learning through probabilistic program induction", Science 350, 2015."""

from __future__ import annotations

import torch

from ..errors import InputError
from ._registry import register
from .files.images import Transform
from .files.omniglot import CHARACTERS, DRAWINGS, load
from .splits.class_splits import by_counts
from .splits.data import Data, make_data
from .splits.split import Split

SPLITS = ("random", "background", "vinyals")

# The published lists (ProtoNet's and torchmeta's files) follow a rule. Five whole alphabets validate. The test has the
# evaluation set's characters from the 42nd of Gurmukhi on, in alphabetical order.
VINYALS_VALIDATION = ("Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)")
VINYALS_TEST = 423


@register("omniglot")
def omniglot(
    root: str | None = None,
    image_size: int = 28,
    rotations: str = "classes",
    split: str = "random",
    seed: int = 0,
    resample: str = "lanczos",
    download: bool = True,
) -> Data[Split]:
    """Handwritten characters of 50 alphabets, bright ink on black.

    Args:
        root: the folder that holds `omniglot-py/`, or its archives or folders themselves; by default
            `$FEWSHOT_KIT_DATA`, else the user's data folder.
        image_size: pixels of each side.
        rotations: rotations of the training characters: `"none"`, `"classes"` (ProtoNet, Reptile), `"per_class"` (MAML)
            or `"per_episode"` (RelationNet). Validation and test are never rotated.
        split: `"random"` draws 1100 / 100 / 423 characters by seed (MAML's counts). `"background"` is Lake's own split:
            the evaluation set's 659 characters for the test, and 100 of the others, by seed, for validation.
            `"vinyals"` is the fixed 1028 / 172 / 423 of ProtoNet.
        seed: seed of the split.
        resample: how images are resized. Older implementations had `"nearest"`, which Pillow used for 1-bit images.
        download: download missing files with torchvision.

    Raises:
        InputError: an unknown option; data that are missing, incomplete or damaged, or that cannot be fetched.
    """
    if split not in SPLITS:
        raise InputError(f"Unknown omniglot split '{split}'; it is one of {', '.join(SPLITS)}.")
    transform = Transform(image_size, channels=1, invert=True, resample=resample)
    background, background_names = load("images_background", root, transform, download)
    evaluation, evaluation_names = load("images_evaluation", root, transform, download)
    names = background_names + evaluation_names
    first, total = CHARACTERS["images_background"], len(names)
    if split == "random":
        parts = by_counts([1100, 100, 423], seed)
    elif split == "background":
        parts = [*by_counts([first - 100, 100], seed), list(range(first, total))]
    else:
        validation = [i for i, name in enumerate(names) if name.split("/")[0] in VINYALS_VALIDATION]
        test = list(range(total - VINYALS_TEST, total))
        parts = [sorted(set(range(total)) - set(validation) - set(test)), validation, test]
    x = torch.cat([background, evaluation])
    y = torch.arange(total).repeat_interleave(DRAWINGS)
    options = {"image_size": image_size, "rotations": rotations, "split": split, "seed": seed, "resample": resample}
    return make_data("omniglot", x, y, names, parts, options, rotations, transform)
