"""Omniglot and its Futurama alphabet, on the real drawings; and what is said when they are not there."""

from __future__ import annotations

import io
import shutil
import sys
import urllib.error
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_kit import datasets
from fewshot_kit.datasets import Data
from fewshot_kit.datasets.files.images import decode
from fewshot_kit.datasets.files.omniglot import CHARACTERS, fetch, load, sources
from fewshot_kit.errors import InputError


@pytest.fixture(scope="module")
def omniglot(data_root: Path) -> Data:
    made = datasets.create("omniglot", root=str(data_root), download=False, rotations="classes")
    assert isinstance(made, Data)
    return made


def classes(data: Data) -> list[set[str]]:
    return [set(split._stored_classes) for split in (data.train, data.validation, data.test) if split is not None]


def test_real_omniglot(omniglot: Data) -> None:
    assert [len(part) for part in classes(omniglot)] == [1100, 100, 423]
    assert len(set().union(*classes(omniglot))) == 1623
    assert len(omniglot.train.classes) == 4400 and len(omniglot.test.classes) == 423
    assert omniglot.train.x.shape == (22000, 1, 28, 28) and omniglot.train.x.dtype == torch.uint8
    assert (omniglot.train.y.bincount() == 20).all()
    # Bright ink on black: most of an image is paper.
    assert 0.03 < omniglot.train.x.float().mean() / 255 < 0.15 and int(omniglot.train.x.max()) == 255
    assert omniglot.recipe is not None and omniglot.recipe["name"] == "omniglot"
    assert omniglot.transform == datasets.Transform(28, 1, True, "lanczos")
    assert omniglot.test.rotations == "none"


def test_drawings_are_what_pillow_makes_of_the_files(omniglot: Data, data_root: Path) -> None:
    label = int(omniglot.test.y[100])
    name = omniglot.test.classes[label]
    for part in CHARACTERS:
        with zipfile.ZipFile(data_root / "omniglot-py" / f"{part}.zip") as archive:
            files = sorted(file for file in archive.namelist() if f"/{name}/" in file and file.endswith(".png"))
            if files:
                image = Image.open(io.BytesIO(archive.read(files[0]))).convert("L")
    expected = 255 - torch.tensor(list(image.resize((28, 28), Image.Resampling.LANCZOS).tobytes()), dtype=torch.uint8)
    assert torch.equal(omniglot.test.x[label * 20].flatten(), expected)


def test_all_cores_give_the_bytes_that_one_gives(data_root: Path) -> None:
    x, names = load("images_background", data_root, datasets.Transform(28, invert=True), False, "Futurama")
    with zipfile.ZipFile(data_root / "omniglot-py" / "images_background.zip") as archive:
        files = sorted(file for file in archive.namelist() if "/Futurama/" in file and file.endswith(".png"))
        one_by_one = [decode(archive.read(file), datasets.Transform(28, invert=True), file) for file in files]
    assert torch.equal(x, torch.tensor(np.stack(one_by_one)))
    assert names == [f"Futurama/character{number:02d}" for number in range(1, 27)]


def test_a_later_start_does_not_list_the_archive(
    omniglot: Data, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", None)
    again = datasets.create("omniglot", root=str(data_root), rotations="classes")
    assert classes(again) == classes(omniglot) and torch.equal(again.test.x, omniglot.test.x)


def test_splits_are_fixed_by_their_seed(omniglot: Data, data_root: Path) -> None:
    again, other = (datasets.create("omniglot", root=str(data_root), seed=seed) for seed in (0, 1))
    assert classes(again) == classes(omniglot) != classes(other)
    assert omniglot.test.classes[:2] == ["Alphabet_of_the_Magi/character05", "Alphabet_of_the_Magi/character06"]


def test_lakes_split(data_root: Path, omniglot: Data) -> None:
    data = datasets.create("omniglot", root=str(data_root), split="background")
    assert [len(part) for part in classes(data)] == [864, 100, 659]
    assert {name.split("/")[0] for name in data.test.classes}.isdisjoint({"Futurama", "Greek"})
    assert len(set().union(*classes(data))) == 1623


def test_vinyals_split(data_root: Path, omniglot: Data) -> None:
    data = datasets.create("omniglot", root=str(data_root), split="vinyals")
    train, validation, test = classes(data)
    assert [len(train), len(validation), len(test)] == [1028, 172, 423] and len(train | validation | test) == 1623
    # From the published lists: Gurmukhi is cut in two, and no other alphabet is.
    assert {"Gurmukhi/character41", "Glagolitic/character45", "Futurama/character26"} <= train
    assert {"Gurmukhi/character42", "Gurmukhi/character45", "ULOG/character26", "Kannada/character01"} <= test
    assert {"Hebrew/character01", "Bengali/character46"} <= validation
    alphabets = [{name.split("/")[0] for name in part} for part in (train, validation, test)]
    assert [len(part) for part in alphabets] == [33, 5, 13] and alphabets[0] & alphabets[2] == {"Gurmukhi"}


def test_futurama(data_root: Path) -> None:
    data = datasets.create("futurama", root=str(data_root))
    assert data.validation is None
    assert [len(part) for part in classes(data)] == [16, 10] and len(set().union(*classes(data))) == 26
    assert all(name.startswith("Futurama/character") for name in data.train.classes)
    data.train.check(5, 5, 15)
    with pytest.raises(InputError, match=r"20 ways are more than the 10 classes of the test split of futurama"):
        data.test.check(20, 1, 1)
    with pytest.raises(InputError, match=r"has 20 examples, too few for 10 shots .*9 more"):
        data.test.check(5, 10, 15)


def test_an_extracted_folder_gives_the_same(data_root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data_root / "omniglot-py" / "images_background.zip") as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if "/Futurama/" in name])
    from_folder = datasets.create("futurama", root=str(tmp_path), resample="nearest")
    from_zip = datasets.create("futurama", root=str(data_root), resample="nearest")
    assert torch.equal(from_folder.train.x, from_zip.train.x)


def blank_omniglot(root: Path, alphabet: str = "Futurama", characters: int = 26, drawings: int = 20) -> None:
    """The folder layout of Omniglot with white paper in it."""
    picture = io.BytesIO()
    Image.new("1", (105, 105), 1).save(picture, "PNG")
    for character in range(1, characters + 1):
        folder = root / "images_background" / alphabet / f"character{character:02d}"
        folder.mkdir(parents=True)
        for drawing in range(1, drawings + 1):
            (folder / f"0001_{drawing:02d}.png").write_bytes(picture.getvalue())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: shutil.rmtree(f / "character05"),
            "has 25 of Futurama's 26 characters; Futurama/character05 is",
        ),
        (lambda f: (f / "character07" / "0001_03.png").unlink(), "has 19 drawings of Futurama/character07 .* be 20"),
        (lambda f: shutil.rmtree(f), "has 0 of Futurama's 26 characters"),
        (lambda f: (f / "character07" / "0001_03.png").write_bytes(b"torn"), "character07/0001_03.png cannot be read"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    blank_omniglot(tmp_path)
    damage(tmp_path / "images_background" / "Futurama")
    with pytest.raises(InputError, match=message):
        datasets.create("futurama", root=str(tmp_path))


def test_a_whole_set_is_counted(tmp_path: Path) -> None:
    blank_omniglot(tmp_path / "omniglot-py", characters=2)
    with pytest.raises(InputError, match=r"images_background has 2 of Omniglot's 964 characters"):
        datasets.create("omniglot", root=str(tmp_path))


def test_a_broken_folder_beside_a_whole_archive_is_passed_over(tmp_path: Path) -> None:
    blank_omniglot(tmp_path)
    with zipfile.ZipFile(tmp_path / "images_background.zip", "w") as archive:
        for file in sorted((tmp_path / "images_background").rglob("*.png")):
            archive.write(file, file.relative_to(tmp_path).as_posix())
        archive.writestr("__MACOSX/images_background/Futurama/character01/._0001_01.png", b"")
    shutil.rmtree(tmp_path / "images_background" / "Futurama" / "character26")
    assert [place.name for place in sources("images_background", tmp_path)] == [
        "images_background",
        "images_background.zip",
    ]
    assert len(datasets.create("futurama", root=str(tmp_path)).train.classes) == 16


def test_an_archive_that_is_a_web_page(tmp_path: Path) -> None:
    (tmp_path / "images_background.zip").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"images_background.zip is no zip archive \(File is not a zip file\)"):
        datasets.create("futurama", root=str(tmp_path))


def archive_of_blanks(root: Path) -> Path:
    blank_omniglot(root / "folder")
    file = root / "images_background.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / "folder").rglob("*.png")):
            archive.write(path, path.relative_to(root / "folder").as_posix())
    return file


@pytest.mark.parametrize("place", [0, 5])  # a byte of the compressed drawing: its header, or what it says
def test_a_torn_drawing_in_an_archive_is_named(tmp_path: Path, place: int) -> None:
    file = archive_of_blanks(tmp_path)
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo("images_background/Futurama/character03/0001_07.png")
    content = bytearray(file.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + place] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(
        InputError, match=r"character03/0001_07.png in .* cannot be read \(.*\); fetch the archive again"
    ):
        datasets.create("futurama", root=str(tmp_path))


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(InputError) as caught:
        datasets.create("omniglot", root=str(tmp_path / "data"))
    said = str(caught.value)
    assert said.startswith(f"Omniglot's images_background is not in {tmp_path / 'data'} (downloading it failed")
    assert "images_background.zip" in said and "--dataset glyphs" in said and "Name or service not known" in said
    assert "\n" not in said


@pytest.mark.parametrize("stopped", [urllib.error.URLError("cut"), zipfile.BadZipFile("half"), KeyboardInterrupt()])
@pytest.mark.parametrize("before", ["", "data/other.txt", "data/omniglot-py/images_evaluation.zip"])
def test_a_failed_download_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: BaseException, before: str
) -> None:
    from fewshot_kit import compat

    class Broken:
        def __init__(self, root: str, background: bool, download: bool) -> None:
            drawings = Path(root) / "omniglot-py" / "images_background" / "Futurama"
            drawings.mkdir(parents=True)
            (drawings.parent.parent / "images_background.zip").write_bytes(b"half")
            raise stopped

    if before:
        (tmp_path / before).parent.mkdir(parents=True)
        (tmp_path / before).write_bytes(b"mine")
    there = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(compat.torchvision().datasets, "Omniglot", Broken)
    with pytest.raises(KeyboardInterrupt if isinstance(stopped, KeyboardInterrupt) else InputError):
        fetch("images_background", tmp_path / "data")
    assert sorted(tmp_path.rglob("*")) == there


def test_no_bar_of_a_download_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fewshot_kit import compat

    monkeypatch.setattr(compat.torchvision().datasets, "Omniglot", lambda *_, **__: print("50%", file=sys.stderr))
    fetch("images_background", tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fetch("images_background", tmp_path)
    assert capsys.readouterr().err == "50%\n"


def test_download_switched_off(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not in .* \(download is off\): put images_background.zip"):
        load("images_background", tmp_path, datasets.Transform(28), download=False)


def test_download_goes_through_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Fake:
        def __init__(self, root: str, background: bool, download: bool) -> None:
            asked.append((root, background, download))
            blank_omniglot(Path(root) / "omniglot-py")

    from fewshot_kit import compat

    monkeypatch.setattr(compat.torchvision().datasets, "Omniglot", Fake)
    assert len(datasets.create("futurama", root=str(tmp_path)).test.classes) == 10
    assert asked == [(str(tmp_path), True, True)]
    fetch("images_evaluation", tmp_path / "other")
    assert asked[1] == (str(tmp_path / "other"), False, True)


def test_unknown_split(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Unknown omniglot split 'maml'; it is one of random, background, vinyals"):
        datasets.create("omniglot", root=str(tmp_path), split="maml")
