"""Other people's Datasets."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from fewshot_kit import datasets
from fewshot_kit.datasets import Split
from fewshot_kit.datasets.any_dataset import labels_of
from fewshot_kit.errors import InputError


class Photos(Dataset[Any]):
    """Six classes of three images, whose value is 10 times their class; counts how often one is read."""

    def __init__(self, kind: str = "pil", **attributes: Any) -> None:
        self.kind, self.reads = kind, 0
        self.known = [label for label in range(6) for _ in range(3)]
        for name, value in attributes.items():
            setattr(self, name, value)

    def __len__(self) -> int:
        return 18

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.reads += 1
        label = self.known[index]
        pixels = np.full((4, 4, 3), 10 * label, np.uint8)
        x = {"pil": Image.fromarray(pixels), "numpy": pixels, "tensor": torch.tensor(pixels).permute(2, 0, 1)}
        return x[self.kind], label


@pytest.mark.parametrize("kind", ["pil", "numpy", "tensor"])
def test_every_kind_of_example(kind: str) -> None:
    dataset = Photos(kind)
    data = datasets.from_dataset(dataset)
    assert dataset.reads == 18  # each example is read once
    assert data.name == "Photos" and data.train.x.shape == (12, 3, 4, 4) and data.train.x.dtype == torch.uint8
    assert data.validation is None and len(data.test.classes) == 2
    values = data.train.x[:, 0, 0, 0].long() // 10
    assert [data.train.classes[label] for label in data.train.y] == [str(int(value)) for value in values]
    data.train.episodes(4, 1, 2, 3)


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels"])
@pytest.mark.parametrize("make", [list, torch.tensor, np.array, tuple])
def test_labels_come_from_metadata(attribute: str, make: Any) -> None:
    known = [label for label in range(6) for _ in range(3)]
    dataset = Photos(**{attribute: make(known)})
    assert labels_of(dataset) == known
    assert labels_of(Subset(dataset, [0, 17])) == [0, 5]
    assert dataset.reads == 0


def test_names_of_classes_and_strings_as_labels() -> None:
    named = Photos(classes=["ape", "bee", "cat", "dog", "elk", "fox"])
    data = datasets.from_dataset(named)
    assert set(data.train.classes) | set(data.test.classes) == set(named.classes)
    x = torch.arange(8.0)[:, None]
    split = Split.from_arrays(x, ["b", "a"] * 4, name="letters")
    assert split.classes == ["a", "b"] and split.y.tolist() == [1, 0] * 4


def test_tensors_and_concatenations() -> None:
    x, y = torch.randn(24, 5), torch.arange(6).repeat(4)
    data = datasets.from_dataset(TensorDataset(x, y), name="vectors", fractions=(0.6, 0.0, 0.4))
    assert data.name == "vectors" and data.train.example_shape == (5,) and data.train.x.dtype == torch.float32
    both = ConcatDataset([TensorDataset(x[:12], y[:12]), TensorDataset(x[12:], y[12:])])
    assert torch.equal(datasets.from_dataset(both, fractions=(0.6, 0.0, 0.4)).train.x, data.train.x)


def test_wrong_metadata_is_said_before_anything_is_read() -> None:
    dataset = Photos(targets=[0, 1, 2])
    with pytest.raises(InputError, match=r"Photos has 18 examples but 3 labels"):
        datasets.from_dataset(dataset)
    few = Photos(targets=[0] * 9 + [1] * 9)
    with pytest.raises(InputError, match=r"Photos has 2 classes: too few to split"):
        datasets.from_dataset(few)
    assert dataset.reads == few.reads == 0


def test_bad_examples() -> None:
    y = torch.arange(6).repeat(4)
    spoilt = torch.zeros(24, 5)
    spoilt[7, 2] = float("nan")
    with pytest.raises(InputError, match=r"1 of the 24 examples of TensorDataset .*number 7,"):
        datasets.from_dataset(TensorDataset(spoilt, y))
    ragged = [(torch.zeros(1, 4, 4 + (index > 4)), index % 6) for index in range(24)]
    with pytest.raises(InputError, match=r"Example 5 of list has shape \[1, 4, 5\], the first one \[1, 4, 4\]"):
        datasets.from_dataset(ragged)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"has no examples"):
        datasets.from_dataset([])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"A label is \[0, 1\]; every example needs one class"):
        datasets.from_dataset(TensorDataset(torch.zeros(4, 2), torch.tensor([[0, 1]] * 4)))


def test_the_names_are_registered_and_light() -> None:
    assert {"folder", "futurama", "glyphs", "omniglot", "sinusoid"} <= set(datasets.names())
    code = (
        "import sys, fewshot_kit.datasets as datasets; datasets.create('glyphs', classes=4, drawings=2); "
        "print([name for name in ('PIL', 'torchvision', 'learn2learn', 'safetensors') if name in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]" and not seen.stderr
