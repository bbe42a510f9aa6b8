"""CUB-200-2011: by the rule of Chen et al., by lists, and what is said where files are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from published_copies import (
    BIRDS,
    Parts,
    bird,
    birds,
    check,
    write,
)

from fewshot_kit import datasets
from fewshot_kit.errors import InputError


def bird_lists(base: Path, parts: Parts) -> Path:
    for name, part in zip(("train", "val", "test"), parts, strict=True):
        lines = [f"Bird_0_{number}.png,{bird(number)},7" for number in part]
        write(base / "split" / f"{name}.csv", "\n".join(["filename, label, concept", *lines]).encode())
    return base


def test_birds_by_lists(tmp_path: Path) -> None:
    parts = [list(range(100)), list(range(150, 200)), list(range(100, 150))]
    bird_lists(birds(tmp_path, each=1), parts)
    check(datasets.create("cub", root=str(tmp_path), image_size=4), BIRDS, each=1, name=bird)
    data = datasets.create("cub", root=str(tmp_path), image_size=4, split="files")
    check(data, parts, each=1, name=bird)
    assert data.options["split"] == "files"


def test_the_rule_of_the_birds(tmp_path: Path) -> None:
    data = datasets.create("cub", root=birds(tmp_path, each=1), image_size=4)
    assert [name[:3] for name in data.train.classes[:3]] == ["001", "003", "005"]
    assert [name[:3] for name in data.validation.classes[:3]] == ["002", "006", "010"]
    assert [name[:3] for name in data.test.classes[:3]] == ["004", "008", "012"]


def test_bad_lists_of_birds(tmp_path: Path) -> None:
    base = birds(tmp_path, each=1)
    with pytest.raises(InputError, match=r"^Unknown cub split 'feat'; it is one of chen, files\.$"):
        datasets.create("cub", root=base, split="feat")
    with pytest.raises(InputError, match=rf"^There is no file {base}/split/train.csv; split='files' needs it, "):
        datasets.create("cub", root=base, split="files")
    bird_lists(base, [list(range(100)), list(range(150, 200)), [7]])
    with pytest.raises(InputError, match=rf"^{base}/images has 1 classes where the test split of CUB-200-2011 has 50 "):
        datasets.create("cub", root=base, split="files")
    bird_lists(base, [list(range(100)), list(range(150, 200)), [200]])
    with pytest.raises(
        InputError, match=rf"/test.csv names class '{bird(200)}', but there is no folder {base}/images/2"
    ):
        datasets.create("cub", root=base, split="files")


def test_missing_birds_are_named(tmp_path: Path) -> None:
    base = birds(tmp_path, each=1)
    (base / "images" / bird(8) / "Bird_0_8.png").unlink()
    (base / "images" / bird(9) / "Bird_0_9.png").unlink()
    with pytest.raises(InputError) as caught:
        datasets.create("cub", root=base)
    assert str(caught.value) == (
        f"{base}/images.txt names 200 images, and 2 of them are not in {base}/images (the first is "
        f"{bird(8)}/Bird_0_8.png); unpack the archive again, or take their lines out for a subset."
    )
    (base / "images.txt").unlink()
    with pytest.raises(InputError, match=rf"^The class folder {base}/images/{bird(8)} has no images"):
        datasets.create("cub", root=base)
    for number in (8, 9):
        (base / "images" / bird(number)).rmdir()
    with pytest.raises(
        InputError, match=rf"^{base}/images has 198 class folders where CUB-200-2011 has 200; unpack it"
    ):
        datasets.create("cub", root=base)
