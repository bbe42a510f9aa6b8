"""What is said of published data sets that are not there, not whole, or laid out in another way."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from published_copies import (
    MINI,
    check,
    csvs,
    folders,
    lists,
    tars,
    wnid,
    write,
)

from fewshot_kit import datasets
from fewshot_kit.errors import InputError

ABSENT = {
    "mini_imagenet": (
        "mini-ImageNet is not in {root} (there is no folder mini-imagenet): put the class folders train/WNID/*.jpg, "
        "val and test, or train.tar, val.tar and test.tar of these, or images/*.jpg with train.csv, val.csv and "
        'test.csv of filename,label into {root}/mini-imagenet (published by Ravi and Larochelle, "Optimization as a '
        'Model for Few-Shot Learning", ICLR 2017, with images of ImageNet), or set FEWSHOT_KIT_DATA to the folder that '
        "holds mini-imagenet, or use --dataset glyphs, which needs no files."
    ),
    "cifar_fs": (
        "CIFAR-FS is not in {root} (there is no folder cifar100): put data/CLASS/*.png with "
        "splits/bertinetto/train.txt, val.txt and test.txt, or the class folders meta-train/CLASS/*.png, meta-val and "
        'meta-test (or train, val and test) into {root}/cifar100 (published by Bertinetto et al., "Meta-learning with '
        'differentiable closed-form solvers", ICLR 2019), or set FEWSHOT_KIT_DATA to the folder that holds cifar100, '
        "or use --dataset glyphs, which needs no files."
    ),
    "tiered_imagenet": (
        "tiered-ImageNet is not in {root} (there is no folder tiered-imagenet): put the class folders "
        "train/WNID/*.jpg, val and test, or train.tar, val.tar and test.tar of these into {root}/tiered-imagenet "
        '(published by Ren et al., "Meta-Learning for Semi-Supervised Few-Shot Classification", ICLR 2018, with images '
        "of ImageNet), or set FEWSHOT_KIT_DATA to the folder that holds tiered-imagenet, or use --dataset glyphs, "
        "which needs no files."
    ),
    "cub": (
        "CUB-200-2011 is not in {root} (there is no folder CUB_200_2011): put images.txt and the class folders "
        'images/001.Black_footed_Albatross/*.jpg and so on into {root}/CUB_200_2011 (published by Wah et al., "The '
        'Caltech-UCSD Birds-200-2011 Dataset", California Institute of Technology, 2011), or set FEWSHOT_KIT_DATA to '
        "the folder that holds CUB_200_2011, or use --dataset glyphs, which needs no files."
    ),
}


@pytest.mark.parametrize("name", ABSENT)
@pytest.mark.parametrize("there", [True, False])
def test_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, there: bool) -> None:
    root = tmp_path / "data"
    if there:
        (root / "omniglot-py").mkdir(parents=True)
    monkeypatch.setenv("FEWSHOT_KIT_DATA", str(root))
    with pytest.raises(InputError) as caught:
        datasets.create(name)
    assert str(caught.value) == ABSENT[name].format(root=root)


def test_the_command_line_says_one_sentence(cli: Any, tmp_path: Path) -> None:
    said = cli.refused(f"train --dataset mini_imagenet --dataset-options root={tmp_path} --iterations 1")
    assert said == ABSENT["mini_imagenet"].format(root=tmp_path)


def test_every_one_is_listed_with_a_sentence(cli: Any) -> None:
    out = cli.good("list datasets")
    assert "Photographs of 100 ImageNet classes, split 64 / 16 / 20 as by Ravi and Larochelle.\n" in out
    assert "Small photographs of the 100 classes of CIFAR-100, split 64 / 16 / 20 as by Bertinetto et al.\n" in out
    assert "Photographs of 608 ImageNet classes, split 351 / 97 / 160 by the categories above them.\n" in out
    assert "Photographs of 200 species of birds, split 100 / 50 / 50 by the rule of Chen et al.\n" in out


@pytest.mark.parametrize(
    ("name", "folder", "copy", "gone", "said"),
    [
        ("mini_imagenet", "mini-imagenet", folders, ["val"], "no val"),
        ("mini_imagenet", "mini-imagenet", tars, ["train.tar", "test.tar"], "no train and no test"),
        ("mini_imagenet", "mini-imagenet", csvs, ["test.csv"], "no test"),
        ("cifar_fs", "cifar100", lists, ["splits/bertinetto/val.txt"], "no val"),
    ],
)
def test_a_missing_split_is_named(
    tmp_path: Path, name: str, folder: str, copy: Any, gone: list[str], said: str
) -> None:
    base = copy(tmp_path / folder, MINI, each=1)
    for part in gone:
        shutil.rmtree(base / part) if (base / part).is_dir() else (base / part).unlink()
    with pytest.raises(InputError, match=rf" is not in {tmp_path} \({base} has {said}\): put .* into {base} \(publ"):
        datasets.create(name, root=str(tmp_path))


@pytest.mark.parametrize("file", ["train_images_png.pkl", "train_images.npz", "mini-imagenet-cache-train.pickle"])
def test_pickles_are_never_opened(tmp_path: Path, file: str) -> None:
    write(tmp_path / "tiered-imagenet" / file, b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError) as caught:
        datasets.create("tiered_imagenet", root=str(tmp_path))
    assert (
        f"({tmp_path / 'tiered-imagenet'} holds {file}, but opening a pickle can run any code, so that none is read: "
        "in a script of your own write its images to train/CLASS/NUMBER.png, val and test likewise, with class names "
        "that differ between the splits, as train17): put the class folders"
    ) in str(caught.value)


def test_another_layout_is_none(tmp_path: Path) -> None:
    write(tmp_path / "cifar-fs" / "cifar100.hdf5", b"")
    write(tmp_path / "other" / "train" / "a.pkl", b"")
    with pytest.raises(InputError, match=rf"\(nothing in {tmp_path}/cifar-fs is laid out so\): put data/CLASS"):
        datasets.create("cifar_fs", root=str(tmp_path))


def test_a_folder_that_holds_the_splits_is_taken_though_another_has_its_name(tmp_path: Path) -> None:
    write(tmp_path / "cifar100" / "notes.txt", b"")
    folders(tmp_path / "cifar-fs", MINI)
    check(datasets.create("cifar_fs", root=str(tmp_path), image_size=4), MINI)


def test_a_listed_class_without_a_folder(tmp_path: Path) -> None:
    base = lists(tmp_path / "cifar100", MINI, each=1)
    gone = base / "data" / wnid(MINI[0][5])
    shutil.rmtree(gone)
    with pytest.raises(
        InputError,
        match=rf"/bertinetto/train.txt names class '{gone.name}', but there is no such folder in {base}",
    ):
        datasets.create("cifar_fs", root=str(tmp_path))
    gone.mkdir()
    with pytest.raises(InputError, match=rf"^The folder {gone} has no images\.$"):
        datasets.create("cifar_fs", root=str(tmp_path))


def test_a_class_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    file = lists(tmp_path / "cifar100", MINI) / "splits" / "bertinetto" / "val.txt"
    file.write_text(file.read_text() + "\n" + wnid(MINI[1][0]) + "\n\n")
    check(datasets.create("cifar_fs", root=str(tmp_path), image_size=4), MINI)


def test_a_listed_image_that_is_not_there(tmp_path: Path) -> None:
    base = tmp_path / "mini-imagenet"
    csvs(base, MINI, each=1)
    gone = base / "images" / f"{wnid(MINI[2][0])}{0:08d}.png"
    gone.unlink()
    with pytest.raises(InputError, match=rf"^Line \d+ of {base}/test.csv names {gone}, which is not there\.$"):
        datasets.create("mini_imagenet", root=str(tmp_path))
