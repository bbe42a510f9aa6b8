"""A person's own images."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_kit import datasets
from fewshot_kit.errors import InputError


def picture(path: Path, value: int = 0, size: tuple[int, int] = (10, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def class_folders(root: Path, counts: dict[str, int]) -> Path:
    """Class k's images are all of grey value 10 k + their number."""
    for index, (name, count) in enumerate(counts.items()):
        for number in range(count):
            picture(root / name / f"{number}.png", 10 * index + number)
    return root


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return class_folders(tmp_path / "pets", {f"class{index}": 3 for index in range(10)})


def test_classes_are_split(pets: Path) -> None:
    data = datasets.create("folder", root=str(pets), image_size=4)
    parts = [set(split.classes) for split in (data.train, data.validation, data.test) if split]
    assert [len(part) for part in parts] == [6, 2, 2] and len(set().union(*parts)) == 10
    assert data.train.x.shape == (18, 3, 4, 4) and data.transform == datasets.Transform(4, 3)
    for split in (data.train, data.test):  # the grey value tells the class
        values = split.x[:, 0, 0, 0].long() // 10
        assert [split.classes[label] for label in split.y] == [f"class{value}" for value in values]
    assert datasets.create("folder", root=str(pets), image_size=4, seed=1).test.classes != data.test.classes
    assert datasets.create("folder", root=str(pets), image_size=4, channels=1).train.x.shape == (18, 1, 4, 4)


def test_second_time_from_the_cache_until_an_image_changes(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = datasets.create("folder", root=str(pets), image_size=4)
    with monkeypatch.context() as patch:
        patch.setattr("fewshot_kit.datasets.folder.load_images", None)
        assert torch.equal(datasets.create("folder", root=str(pets), image_size=4).train.x, first.train.x)
    for path in pets.rglob("*.png"):
        picture(path, 200, (11, 11))
    assert (datasets.create("folder", root=str(pets), image_size=4).train.x == 200).all()


def test_folders_of_one_name_have_a_cache_each_and_stay_as_they_are(tmp_path: Path) -> None:
    """Even where names, sizes and times of all files are the same."""
    for place, value in (("one", 0), ("other", 200)):
        for index in range(4):
            file = tmp_path / place / "pets" / f"class{index}" / "0.bmp"
            picture(file, value)
            os.utime(file, (0, 0))
    for place, value in (("one", 0), ("other", 200)):
        root = tmp_path / place / "pets"
        for _ in range(2):
            assert (datasets.create("folder", root=str(root), image_size=4).train.x == value).all()
        assert sorted(path.name for path in root.iterdir()) == [f"class{index}" for index in range(4)]


@pytest.mark.parametrize("validation", ["val", "validation", None])
def test_given_splits(tmp_path: Path, validation: str | None) -> None:
    for name, labels in {"train": "abc", validation: "de", "test": "fg"}.items():
        if name is not None:
            class_folders(tmp_path / name, dict.fromkeys(labels, 2))
    data = datasets.create("folder", root=str(tmp_path), image_size=4)
    assert data.train.classes == ["a", "b", "c"] and data.test.classes == ["f", "g"]
    assert (data.validation.classes if data.validation else None) == (["d", "e"] if validation else None)


def test_a_class_in_two_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", {"cat": 2, "dog": 2})
    class_folders(tmp_path / "test", {"dog": 2, "fox": 2})
    with pytest.raises(InputError, match=r"Class 'dog' is in more than one .*Put all classes into one folder"):
        datasets.create("folder", root=str(tmp_path))


def test_a_class_with_too_few_images_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, {"train/cat": 5, "train/dog": 5, "test/fox": 5, "test/owl": 2})
    data = datasets.create("folder", root=str(tmp_path), image_size=4)
    data.train.check(2, 1, 4)
    with pytest.raises(InputError, match=r"Class 'owl' of the test split of folder .* has 2 examples, too few for 1"):
        data.test.check(2, 1, 4)


def test_a_torn_image_is_named(pets: Path) -> None:
    (pets / "class4" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    with pytest.raises(InputError, match=r"class4/1.png cannot be read .*; replace or remove it"):
        datasets.create("folder", root=str(pets))


def test_missing_empty_and_small_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*nowhere"):
        datasets.create("folder", root=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"has no images in class folders"):
        datasets.create("folder", root=str(tmp_path))
    with pytest.raises(InputError, match=r"needs more: missing a required argument: 'root'"):
        datasets.create("folder")
    class_folders(tmp_path, {"cat": 2, "dog": 2, "fox": 2})
    with pytest.raises(InputError, match=r"has 3 classes: too few to split .* at least 4") as few:
        datasets.create("folder", root=str(tmp_path))
    assert all(fix in str(few.value) for fix in ("fractions=", "folders train, val and test", "fewshot-kit adapt"))


def test_more_ways_than_classes_names_what_can_be_changed(pets: Path, tmp_path: Path) -> None:
    data = datasets.create("folder", root=str(pets), image_size=4)
    said = "5 ways are more than the 2 classes of the test split of folder pets; lower ways"
    with pytest.raises(InputError, match=rf"^{said}, or share the classes out otherwise by fractions=\.$"):
        data.test.check(5, 1, 1)
    datasets.create("folder", root=str(pets), image_size=4, fractions=(0.5, 0, 0.5)).test.check(5, 1, 1)
    class_folders(tmp_path / "given", {"train/a": 2, "train/b": 2, "test/c": 2, "test/d": 2})
    with pytest.raises(InputError, match=r"of the test split of folder given; lower ways\.$"):
        datasets.create("folder", root=str(tmp_path / "given"), image_size=4).test.check(5, 1, 1)


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.2, 0.2), (1.2, -0.4, 0.2), (0.8, 0.2, 0.0)])
def test_bad_fractions(pets: Path, fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"must be three shares that sum to 1"):
        datasets.create("folder", root=str(pets), fractions=fractions)


def test_csv(pets: Path) -> None:
    lines = [f"{path.relative_to(pets)},{path.parent.name[:-1]}-{path.parent.name[-1]}" for path in pets.rglob("*.png")]
    (pets / "labels.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    data = datasets.create("folder", root=str(pets), csv="labels.csv", image_size=4)
    assert len(data.train.classes) == 6 and data.train.classes[0].startswith("class-")
    values = data.train.x[:, 0, 0, 0].long() // 10
    assert [data.train.classes[label] for label in data.train.y] == [f"class-{value}" for value in values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nclass0/0.png,a\nclass0/gone.png,a\n", "Line 3 of .* names .*gone.png, which is not there"),
        ("class0/0.png\n", "Line 1 of .* is 'class0/0.png'; it must be path,label"),
        ("path,label\n", "names no images"),
    ],
)
def test_bad_csv(pets: Path, text: str, message: str) -> None:
    (pets / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        datasets.create("folder", root=str(pets), csv="labels.csv")
    with pytest.raises(InputError, match=r"There is no file .*other.csv"):
        datasets.create("folder", root=str(pets), csv="other.csv")


def test_real_photographs(data_root: Path, tmp_path: Path) -> None:
    archive = data_root / "mini-imagenet" / "val.tar"
    if not archive.exists():
        pytest.skip(f"no {archive}")
    with tarfile.open(archive) as tar:
        members = [member for member in tar.getmembers() if member.isfile() and member.name.endswith(".jpg")]
        chosen = {}
        for member in members:
            chosen.setdefault(Path(member.name).parent.name, []).append(member)
        for name, files in list(chosen.items())[:6]:
            for member in files[:4]:
                content = tar.extractfile(member)
                assert content is not None
                (tmp_path / name).mkdir(exist_ok=True)
                (tmp_path / name / Path(member.name).name).write_bytes(content.read())
    data = datasets.create("folder", root=str(tmp_path))
    assert data.train.image_size == 84 and data.train.channels == 3
    episode = data.train.episodes(2, 1, 3, 2, torch.Generator().manual_seed(0))
    assert episode.support_x.shape == (2, 2, 3, 84, 84) and 0.1 < episode.support_x.mean() < 0.9
