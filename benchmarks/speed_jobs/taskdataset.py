"""learn2learn's own data path over the real Omniglot: its task transforms, and PNG files or tensors underneath."""

from __future__ import annotations

import functools
import random
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from fewshot_kit import compat
from fewshot_kit.datasets.files.omniglot import CHARACTERS, sources

from .settings import Settings, find_root, omniglot

Item = tuple[Tensor, int]
_unpacked = tempfile.TemporaryDirectory(prefix="speed-omniglot-", ignore_cleanup_errors=True)


class Drawings(Dataset[Item]):
    """PNG files, each opened, resized and converted whenever it is asked for: as learn2learn's FullOmniglot does."""

    def __init__(self, files: list[Path], labels: list[int]) -> None:
        self.files, self.labels = files, labels
        transforms = compat.torchvision().transforms
        from PIL import Image

        self.open = Image.open
        self.transform: Callable[[Any], Tensor] = transforms.Compose(
            [
                transforms.Resize(28, interpolation=transforms.InterpolationMode.LANCZOS),
                transforms.ToTensor(),
                lambda x: 1.0 - x,
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Item:
        return self.transform(self.open(self.files[index]).convert("L")), self.labels[index]


class InMemory(Dataset[Item]):
    """The same images, decoded beforehand."""

    def __init__(self, x: Tensor, labels: list[int]) -> None:
        self.x, self.labels = x, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        return self.x[index], self.labels[index]


@functools.cache
def drawings(root: str | None) -> Drawings:
    """All of Omniglot as files; archives are unpacked to a temporary folder first."""
    omniglot(root)  # says what is wrong with the data, if anything is
    parts = [_folder(part, find_root(root)) for part in CHARACTERS]
    characters = [character for part in parts for character in sorted(part.glob("*/character*"))]
    files = [(file, label) for label, character in enumerate(characters) for file in sorted(character.glob("*.png"))]
    return Drawings([file for file, _ in files], [label for _, label in files])


def _folder(part: str, root: Path) -> Path:
    found = sources(part, root)
    folders = [source for source in found if source.is_dir()]
    if folders:
        return folders[0]
    with zipfile.ZipFile(found[0]) as archive:
        archive.extractall(_unpacked.name)
    return Path(_unpacked.name) / part


def in_memory(root: str | None) -> InMemory:
    """All images of the kit's training split as floats, the same classes."""
    split = omniglot(root).train
    return InMemory(split.x.float() / 255, split.y.tolist())


def tasks(dataset: Any, ways: int, examples: int, rotated: bool = False) -> Any:
    """A `Taskset` with the transforms of learn2learn's Omniglot benchmark.

    Its scan of all images for their labels, 10 seconds at the first start, is spared.
    """
    random.seed(0)
    library = compat.learn2learn()
    meta = library.data.MetaDataset(dataset, indices_to_labels=dict(enumerate(dataset.labels)))
    transforms = library.data.transforms
    chain = [
        transforms.FusedNWaysKShots(meta, n=ways, k=examples),
        transforms.LoadData(meta),
        transforms.RemapLabels(meta),
        transforms.ConsecutiveLabels(meta),
    ]
    if rotated:
        chain.append(library.vision.transforms.RandomClassRotation(meta, [0.0, 90.0, 180.0, 270.0]))
    return library.data.Taskset(meta, task_transforms=chain, num_tasks=20000)


def training_characters(settings: Settings) -> Drawings:
    """1,100 of the characters, as the example's training set has."""
    everything = drawings(settings.root)
    labels = np.array(everything.labels)
    chosen = np.isin(labels, np.random.default_rng(0).permutation(labels.max() + 1)[:1100]).nonzero()[0]
    return Drawings([everything.files[index] for index in chosen], labels[chosen].tolist())


def halves(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Every other example adapts and the rest evaluates, as in learn2learn's examples."""
    return x[::2], y[::2], x[1::2], y[1::2]
