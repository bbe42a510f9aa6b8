"""Caches whose key and checksum are right and whose content is not what the source gives: they are built anew."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
import torch
from published_copies import MINI, folders
from torch import nn

from fewshot_kit import datasets
from fewshot_kit.features import embed_files

ODD = {
    "few rows": torch.zeros(3, 3, 4, 4, dtype=torch.uint8),
    "other size": torch.zeros(20, 3, 5, 4, dtype=torch.uint8),
    "other type": torch.zeros(20, 3, 4, 4),
    "number": torch.zeros((), dtype=torch.uint8),
}


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FEWSHOT_KIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Ten classes of two images."""
    for number in range(20):
        hostile.put(tmp_path / "pets" / f"class{number // 2}", f"{number}.png", hostile.png(4, 4))
    return tmp_path / "pets"


@pytest.mark.parametrize("odd", ODD)
def test_a_folder(cache: Path, pets: Path, odd: str) -> None:
    def load() -> datasets.Data:
        return datasets.create("folder", root=str(pets), image_size=4)

    first = load()
    (file,) = cache.iterdir()
    hostile.recast(file, ODD[odd])
    with pytest.warns(UserWarning, match=r"is damaged \(its content does not fit the source\); it is built anew"):
        again = load()
    assert torch.equal(first.train.x, again.train.x)
    load()


@pytest.mark.parametrize("names", ["{}", "[1]", "[", "[" * 100_000, "null", '["one"]'])
def test_names(cache: Path, tmp_path: Path, names: str) -> None:
    """Classes of a published data set come from the cache too."""
    folders(tmp_path / "mini-imagenet", MINI, each=1)

    def load() -> datasets.Data:
        return datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)

    first = load()
    hostile.recast(next(cache.glob("*-val-*")), names=names)
    with pytest.warns(UserWarning, match=r"is damaged \((it holds no list of names|its content does not fit)"):
        assert load().validation.classes == first.validation.classes


def test_features(cache: Path, pets: Path) -> None:
    transform = datasets.Transform(4)
    first = embed_files(nn.Flatten(), pets, transform=transform)
    (file,) = cache.iterdir()
    for odd in (torch.zeros(3, 16), torch.zeros(20, 16, dtype=torch.int64), torch.zeros(20), torch.zeros(())):
        hostile.recast(file, odd)
        with pytest.warns(UserWarning, match="does not fit the source"):
            assert torch.equal(embed_files(nn.Flatten(), pets, transform=transform).x, first.x)


def test_a_folder_with_a_long_name_and_no_utf8(cache: Path, pets: Path) -> None:
    """The name of the cache's file is short enough for every disk."""
    for name in ("n" * 250, "猫" * 80, b"caf\xe9".decode("utf-8", "surrogateescape")):
        place = pets.with_name(name)
        pets.rename(place)
        datasets.create("folder", root=str(place), image_size=4)
        place.rename(pets)
    assert len(list(cache.iterdir())) == 3 and all(len(path.name.encode()) < 200 for path in cache.iterdir())
