"""Support sets from a `Dataset`, a `DataLoader` and folders, and what is none."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_inputs import COLOUR, noise, photos
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from fewshot_kit import datasets
from fewshot_kit.adaptation.inputs import read_examples, read_support
from fewshot_kit.datasets import Transform
from fewshot_kit.errors import InputError


class Photos(Dataset):
    """Pillow images of different sizes, with labels; it counts what is read of it."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, str]:
        self.read += 1
        torch.rand(1)  # as a random transform does
        return Image.fromarray(noise(9 + index, 12, 3)), "ab"[index % 2]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.full((2,), float(i)), i) for i in range(3)])


def test_a_dataset_is_read_once_and_nothing_is_drawn() -> None:
    random, data = torch.get_rng_state(), Photos()
    x, labels = read_support(data, COLOUR, 3)
    assert x.shape == (4, 3, 8, 8) and labels == ["a", "b", "a", "b"] and data.read == 4
    assert torch.equal(read_examples(data, COLOUR, 3), x)
    assert torch.equal(random, torch.get_rng_state())
    assert read_support(Stream(), None, None)[1] == [0, 1, 2]


def test_batches_of_a_loader_are_joined() -> None:
    x, y = torch.rand(7, 3, 8, 8), torch.tensor([2, 0, 1, 1, 0, 2, 2])
    random = torch.get_rng_state()
    found, labels = read_support(DataLoader(TensorDataset(x, y), batch_size=3), None, 3)
    assert torch.equal(found, x) and labels == y.tolist()
    found, targets = read_support(DataLoader(TensorDataset(x, x[:, 0, 0, :2]), batch_size=3, shuffle=True), None, 3)
    assert torch.equal(found[:, 0, 0, :2], targets)
    assert torch.equal(read_examples(DataLoader(TensorDataset(x), batch_size=3), None, 3), x)
    assert torch.equal(read_examples(DataLoader(x, batch_size=3), None, 3), x)  # a Dataset of examples alone
    texts = DataLoader(list(zip(x, "abcabca", strict=True)), batch_size=3)
    assert read_support(texts, None, 3)[1] == list("abcabca")
    assert torch.equal(random, torch.get_rng_state())


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    photos(tmp_path / "cat", noise(2, 9, 12, 3))
    photos(tmp_path / "dog", noise(3, 20, 12))
    for place in (tmp_path, str(tmp_path)):
        x, labels = read_support(place, COLOUR, 3)
        assert x.shape == (5, 3, 8, 8) and labels == ["cat"] * 2 + ["dog"] * 3
    assert torch.equal(read_examples(tmp_path, COLOUR, 3), x)


@pytest.mark.parametrize(
    ("support", "said"),
    [
        ((torch.zeros(3, 2), [0, 1]), "3 examples came with 2 labels; give one label for each example."),
        ((torch.zeros(2, 2), torch.eye(2)), "one-hot rows"),
        (torch.zeros(3, 2), "The support set is a Tensor; give (examples, labels), a Dataset"),
        ([1, 2, 3], "The support set is a list of 3; give (examples, labels)"),
        (None, "The support set is a NoneType"),
        (TensorDataset(torch.zeros(3, 2)), "TensorDataset gives no labels; a support set needs (x, y)"),
        (DataLoader([{"x": 1}]), "DataLoader gives a dict; it must give (x, y)."),
        ("nowhere", "There is no folder nowhere."),
    ],
)
def test_support_sets_that_are_none(support: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_support(support, None, None)
    assert said in str(caught.value)


def test_photos_by_a_loader_of_floats_are_the_files(data_root: Path, tmp_path: Path) -> None:
    """A torchvision user's way, on real photos: 84 pixels, ToTensor, a DataLoader; to a network of 224 pixels."""
    source = data_root / "mini-imagenet" / "test.tar"
    if not source.is_file():
        pytest.skip("no mini-ImageNet")
    with tarfile.open(source) as archive:
        for number, member in zip(range(12), archive, strict=False):
            data = archive.extractfile(member)
            assert data is not None
            place = tmp_path / "ab"[number % 2] / f"{number}.jpg"
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(data.read())
    transform = Transform(224, 3, resample="bicubic", crop=0.875, mean=(0.485, 0.456, 0.406), deviation=(0.2, 0.2, 0.2))
    expected, labels = read_support(tmp_path, transform, 3)
    pairs = [
        (torch.tensor(np.asarray(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255, label)
        for label, path in zip(*datasets.find_images(tmp_path), strict=True)
    ]
    x, found = read_support(DataLoader(pairs, batch_size=5), transform, 3)
    assert torch.equal(x, expected) and found == labels == ["a"] * 6 + ["b"] * 6
