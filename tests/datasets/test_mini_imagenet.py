"""mini-ImageNet from tar archives: damaged ones, and the real images."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from published_copies import MINI, NAMES, tars

from fewshot_kit import datasets
from fewshot_kit.datasets import Data
from fewshot_kit.errors import InputError

# From the lists of Ravi and Larochelle.
VALIDATION = (
    "n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792 n03075370 n03417042 n03535780 "
    "n03584254 n03770439 n03773504 n03980874 n09256479"
)
TEST = (
    "n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486 n02443484 n02871525 n03127925 "
    "n03146219 n03272010 n03544143 n03775546 n04146614 n04149813 n04418357 n04522168 n07613480"
)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tars(tmp_path, MINI, each=1) / "val.tar"


def fifth(archive: Path) -> tarfile.TarInfo:
    with tarfile.open(archive) as opened:
        return opened.getmembers()[5]


@pytest.mark.parametrize("damage", ["cut off between images", "a header", "its end"])
def test_images_that_a_damaged_archive_hides_are_missed(archive: Path, damage: str) -> None:
    content = bytearray(archive.read_bytes())
    place = fifth(archive).offset
    if damage == "cut off between images":
        del content[place:]
    elif damage == "a header":
        content[place + 10] ^= 0xFF
    else:
        with tarfile.open(archive) as opened:
            opened.getmembers()
            place = opened.offset
        del content[place:]
    archive.write_bytes(content)
    with pytest.raises(InputError) as caught:
        datasets.create("mini_imagenet", root=str(archive.parent))
    assert str(caught.value) == f"{archive} is damaged or cut off at byte {place}; fetch or make it again."


@pytest.mark.parametrize(
    "damage",
    [
        lambda archive: archive.read_bytes()[: fifth(archive).offset_data + 10],
        lambda archive: gzip.compress(archive.read_bytes()),
        lambda archive: b"<html>404</html>",
        lambda archive: b"",
    ],
)
def test_what_is_no_archive(archive: Path, damage: Callable[[Path], bytes]) -> None:
    archive.write_bytes(damage(archive))
    with pytest.raises(
        InputError, match=rf"^{archive} is no whole, uncompressed tar archive \(.+\); fetch or make it again\.$"
    ):
        datasets.create("mini_imagenet", root=str(archive.parent))


def test_an_archive_without_images(archive: Path) -> None:
    with tarfile.open(archive, "w") as opened:
        opened.addfile(tarfile.TarInfo("val/n01/notes.txt"))
        opened.addfile(tarfile.TarInfo("loose.jpg"))
    with pytest.raises(
        InputError, match=rf"^{archive} has no images in class folders; its members must be CLASS/IMAGE\.jpg\.$"
    ):
        datasets.create("mini_imagenet", root=str(archive.parent))


KEPT = 4  # images of each class: the whole takes ten seconds of a core


@pytest.fixture(scope="module")
def archives(data_root: Path) -> Path:
    folder = data_root / "mini-imagenet"
    if not (folder / "train.tar").is_file():
        pytest.skip(f"no mini-imagenet/train.tar in {data_root}")
    return folder


@pytest.fixture(scope="module")
def thinned(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives with a few of the images of every class."""
    folder = tmp_path_factory.mktemp("data") / "mini-imagenet"
    folder.mkdir()
    for name in NAMES:
        kept: Counter[str] = Counter()
        with tarfile.open(archives / f"{name}.tar") as whole, tarfile.open(folder / f"{name}.tar", "w") as copy:
            for member in whole:
                label = Path(member.name).parent.name
                if member.isfile() and kept[label] < KEPT:
                    kept[label] += 1
                    copy.addfile(member, whole.extractfile(member))
    return folder


def check_real(data: Data) -> None:
    splits = [data.train, data.validation, data.test]
    assert [len(split.classes) for split in splits] == [64, 16, 20]
    assert data.validation.classes == VALIDATION.split() and data.test.classes == TEST.split()
    assert len({name for split in splits for name in split.classes}) == 100 and "n01532829" in data.train.classes
    for split in splits:
        assert split.x.shape == (len(split.y), 3, 84, 84)
        assert len(split.y.bincount().unique()) == 1  # as many images of every class
        assert 0.3 < split.x[::40].float().mean() / 255 < 0.6
    total = sum(map(len, splits))
    subset = "" if total == 60000 else f" (a subset: {total} of 60000 images)"
    assert data.name == f"mini_imagenet{subset}" and data.test.name == f"the test split of {data.name}"


def test_real_photographs(thinned: Path) -> None:
    data = datasets.create("mini_imagenet", root=str(thinned.parent))
    check_real(data)
    assert len(data.train) == 64 * KEPT
    with tarfile.open(thinned / "val.tar") as opened:
        members = sorted(opened.getmembers(), key=lambda member: member.name)
        contents: list[Any] = [opened.extractfile(member) for member in members]
        images = [Image.open(io.BytesIO(content.read())).convert("RGB") for content in contents]
    assert images[0].size == (84, 84)
    expected = torch.stack([torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8) for image in images])
    assert torch.equal(data.validation.x, expected.view(-1, 84, 84, 3).permute(0, 3, 1, 2))
    episode = data.test.episodes(5, 1, 3, 2, torch.Generator().manual_seed(0))
    assert episode.query_x.shape == (2, 15, 3, 84, 84)


@pytest.mark.long
def test_all_of_the_real_photographs(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.create("mini_imagenet", root=str(archives.parent))
    check_real(data)
    monkeypatch.setattr("tarfile.open", None)
    again = datasets.create("mini_imagenet", root=str(archives.parent))
    assert torch.equal(again.test.x, data.test.x) and again.train.classes == data.train.classes
