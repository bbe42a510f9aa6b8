"""Published data sets on small copies of every layout; and what is said of content that is not theirs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_copies import (
    BIRDS,
    MINI,
    TIERED,
    Parts,
    bird,
    birds,
    check,
    csvs,
    folders,
    lists,
    png,
    tars,
    wnid,
    write,
)

from fewshot_kit import datasets
from fewshot_kit.datasets.files.images import Transform
from fewshot_kit.datasets.files.layouts import split_folders
from fewshot_kit.datasets.mini_imagenet import MINI_IMAGENET
from fewshot_kit.datasets.published import load
from fewshot_kit.errors import InputError

WHOLE = {"mini_imagenet": 100 * 600, "cifar_fs": 100 * 600, "tiered_imagenet": 448695 + 124261 + 206209, "cub": 11788}
META = ("meta-train", "meta-val", "meta-test")

LAYOUTS: dict[str, tuple[str, Callable[[Path], Path], Parts, int]] = {
    "mini, folders": ("mini_imagenet", lambda root: folders(root / "mini-imagenet", MINI, each=1), MINI, 84),
    "mini, archives": ("mini_imagenet", lambda root: tars(root / "miniImageNet", MINI, each=1), MINI, 84),
    "mini, lists": ("mini_imagenet", lambda root: csvs(root / "mini_imagenet", MINI, each=1), MINI, 84),
    "cifar, lists": ("cifar_fs", lambda root: lists(root / "cifar100", MINI, each=1), MINI, 32),
    "cifar, meta folders": ("cifar_fs", lambda root: folders(root / "CIFAR-FS", MINI, 1, META), MINI, 32),
    "cifar, folders": ("cifar_fs", lambda root: folders(root / "cifar_fs", MINI, each=1), MINI, 32),
    "tiered, folders": ("tiered_imagenet", lambda root: folders(root / "tiered-imagenet", TIERED, each=1), TIERED, 84),
    "birds": ("cub", lambda root: birds(root / "CUB_200_2011", each=1), BIRDS, 84),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(tmp_path: Path, layout: str) -> None:
    name, copy, parts, size = LAYOUTS[layout]
    copy(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    data = datasets.create(name, root=str(tmp_path), image_size=4)
    check(data, parts, each=1, name=bird if name == "cub" else wnid)
    assert sorted(tmp_path.rglob("*")) == before  # the cache has a folder of its own in these tests
    subset = f"{name} (a subset: {len(data.train) + len(data.validation) + len(data.test)} of {WHOLE[name]} images)"
    assert (data.name, data.test.name) == (subset, f"the test split of {subset}")
    assert data.transform == data.test.transform == Transform(4, 3)
    assert data.recipe == {"name": name, "options": {"root": str(tmp_path), "image_size": 4}, "complete": True}
    assert datasets.get(name).__defaults__[1:3] == (size, 3)


def test_the_root_may_be_the_folder_itself_and_images_grey(tmp_path: Path) -> None:
    data = datasets.create("cub", root=birds(tmp_path / "elsewhere", each=1), image_size=4, channels=1)
    assert data.train.x.shape == (100, 1, 4, 4)


def test_all_layouts_give_the_same_episodes(tmp_path: Path) -> None:
    made = []
    for number, copy in enumerate([folders, tars, csvs]):
        root = tmp_path / str(number)
        copy(root / "mini-imagenet", MINI)
        made.append(datasets.create("mini_imagenet", root=str(root), image_size=4))
    for other in made[1:]:
        for first, second in zip(*([data.train, data.validation, data.test] for data in (made[0], other)), strict=True):
            assert torch.equal(first.x, second.x) and torch.equal(first.y, second.y)
            assert first.classes == second.classes


@pytest.mark.parametrize("copy", [folders, tars, csvs])
def test_a_later_start_decodes_nothing(tmp_path: Path, copy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copy(tmp_path, MINI)
    datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)
    monkeypatch.setattr("fewshot_kit.datasets.published.decode_all", None)
    monkeypatch.setattr("tarfile.open", None)
    check(datasets.create("mini_imagenet", root=str(tmp_path), image_size=4), MINI)
    for other in ({"image_size": 5}, {"channels": 1}, {"resample": "box"}):
        with pytest.raises((TypeError, InputError)):
            datasets.create("mini_imagenet", root=str(tmp_path), **{"image_size": 4} | other)


def test_a_replaced_image_or_label_is_seen(tmp_path: Path) -> None:
    csvs(tmp_path, MINI, each=1)
    check(datasets.create("mini_imagenet", root=str(tmp_path), image_size=4), MINI, each=1)
    first, second = MINI[0][:2]
    (tmp_path / "images" / f"{wnid(first)}{0:08d}.png").write_bytes(png(first, 9) + b" ")  # of another length
    data = datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)
    assert data.train.x[0, 2, 0, 0] == 9
    text = (tmp_path / "train.csv").read_text()
    swapped = text.replace(f",{wnid(first)}\n", ",?\n").replace(f",{wnid(second)}\n", f",{wnid(first)}\n")
    (tmp_path / "train.csv").write_text(swapped.replace(",?\n", f",{wnid(second)}\n"))
    data = datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)
    assert data.train.classes[:2] == [wnid(first), wnid(second)]
    assert data.train.x[:2, 0, 0, 0].tolist() == [second, first]
    text = (tmp_path / "train.csv").read_text()
    (tmp_path / "train.csv").write_text(text.replace(f",{wnid(first)}\n", ",albatross\n"))  # the order stays
    again = datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)
    assert again.train.classes == ["albatross", *data.train.classes[1:]] and torch.equal(again.train.x, data.train.x)


def test_the_whole_data_set_is_no_subset_and_more_is_refused(tmp_path: Path) -> None:
    folders(tmp_path, MINI)
    whole = dataclasses.replace(MINI_IMAGENET, images=200)
    data = load(whole, tmp_path, Transform(4, 3), [split_folders])
    assert (data.name, data.train.name) == ("mini_imagenet", "the training split of mini_imagenet")
    assert data.options == {
        "image_size": 4,
        "channels": 3,
        "resample": "lanczos",
        "crop": 1.0,
        "mean": (),
        "deviation": (),
    }
    write(tmp_path / "val" / wnid(MINI[1][0]) / "more.png", png(0, 0))
    with pytest.raises(InputError) as caught:
        load(whole, tmp_path, Transform(4, 3), [split_folders])
    assert str(caught.value) == (
        f"{tmp_path} has 201 images, more than the 200 of mini-ImageNet (the largest class is '{wnid(MINI[1][0])}' "
        "with 3); remove what does not belong to it."
    )


@pytest.mark.parametrize("copy", [folders, tars, csvs])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_classes(tmp_path: Path, copy: Any, change: int) -> None:
    validation = MINI[1][:15] if change < 0 else [*MINI[1], 100]
    copy(tmp_path / "mini-imagenet", [MINI[0], validation, MINI[2]], each=1)
    place = tmp_path / "mini-imagenet" / {folders: "val", tars: "val.tar", csvs: "val.csv"}[copy]
    with pytest.raises(InputError) as caught:
        datasets.create("mini_imagenet", root=str(tmp_path))
    assert str(caught.value) == (
        f"{place} has {16 + change} classes where the validation split of mini-ImageNet has 16 (its splits have 64, 16 "
        "and 20); put all of them there and no others, or use --dataset folder for classes of your own."
    )


@pytest.mark.parametrize("copy", [folders, tars, csvs])
def test_a_class_in_two_splits(tmp_path: Path, copy: Any) -> None:
    copy(tmp_path, [MINI[0], MINI[1], [*MINI[2][1:], MINI[0][7]]], each=1)
    with pytest.raises(InputError) as caught:
        datasets.create("mini_imagenet", root=str(tmp_path))
    assert str(caught.value) == (
        f"Class '{wnid(MINI[0][7])}' is in the training and in the test split of mini-ImageNet in {tmp_path} (1 such "
        "classes); few-shot splits have no class in common."
    )


def test_splits_that_were_cached_apart_are_checked_together(tmp_path: Path) -> None:
    one, two = tars(tmp_path / "1", MINI, each=1), tars(tmp_path / "2", by_turns(), each=1)
    place = tmp_path / "mini-imagenet"
    for source in (one, two):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place)
        datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)
    shutil.copy2(one / "val.tar", place)
    with pytest.raises(InputError, match=r"is in the training and in the validation split of mini-ImageNet"):
        datasets.create("mini_imagenet", root=str(tmp_path), image_size=4)


def by_turns() -> Parts:
    """The classes of `MINI`'s validation split among those to train on."""
    train, validation, test = MINI
    return [validation + train[:48], train[48:], test]


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    folders(tmp_path, MINI, each=1)
    place = tmp_path / "test" / wnid(MINI[2][3])
    next(place.iterdir()).unlink()
    with pytest.raises(InputError, match=rf"^The class folder {place} has no images; put them there, or remove it\.$"):
        datasets.create("mini_imagenet", root=str(tmp_path))


@pytest.mark.parametrize("layout", ["mini, folders", "mini, archives", "mini, lists", "cifar, lists", "birds"])
def test_a_corrupt_image_is_named(tmp_path: Path, layout: str) -> None:
    name, copy, _, _ = LAYOUTS[layout]
    base = copy(tmp_path)
    if layout == "mini, archives":
        content = (base / "val.tar").read_bytes()
        good = png(MINI[1][3], 0)
        (base / "val.tar").write_bytes(content.replace(good, b"torn".ljust(len(good))))
        said = rf"val/{wnid(MINI[1][3])}/{wnid(MINI[1][3])}00000000.png in {base}/val.tar"
    else:
        torn = sorted(base.rglob("*.png"))[77]
        torn.write_bytes(b"torn")
        said = str(torn)
    with pytest.raises(InputError, match=rf"^The image \S*{said} cannot be read \(.*\); replace or remove it\.$"):
        datasets.create(name, root=str(tmp_path), image_size=4)
