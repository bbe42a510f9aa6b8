"""What every job is handed: where it runs, where the data are, and how often."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import NamedTuple

import torch

from fewshot_kit import datasets
from fewshot_kit.datasets.splits.data import Data
from fewshot_kit.datasets.splits.split import Split
from fewshot_kit.episodes import Episode

BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data"


class Settings(NamedTuple):
    """How the jobs are run."""

    device: torch.device
    root: str | None = None
    rounds: int = 7


def find_root(root: str | None) -> Path:
    """The folder of the data sets: as everywhere in the kit, or beside the checkout, where its tests look too."""
    said = root or os.environ.get("FEWSHOT_KIT_DATA")
    return BESIDE if not said and BESIDE.is_dir() else datasets.find_root(root)


@functools.cache
def omniglot(root: str | None, rotations: str = "none") -> Data[Split]:
    """Omniglot at 28x28; never downloaded for a benchmark."""
    data: Data[Split] = datasets.create("omniglot", root=str(find_root(root)), rotations=rotations, download=False)
    return data


def episodes(settings: Settings, shots: int, queries: int, tasks: int) -> Episode:
    """5-way tasks of real training characters, the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    return omniglot(settings.root).train.episodes(5, shots, queries, tasks, generator, settings.device)
