"""Lists of images and classes, in the encodings and with the mistakes that people's files have."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest

from fewshot_kit import datasets
from fewshot_kit.datasets.cifar_fs import split_lists
from fewshot_kit.datasets.files.lists import read_csv, read_rows
from fewshot_kit.errors import InputError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder with `a/1.png` and `a/ü.png`."""
    for name in ("1.png", "ü.png"):
        hostile.put(tmp_path / "a", name, hostile.png(4, 4))
    return tmp_path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-be"])
def test_encodings_that_tell_themselves(base: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file = hostile.put(base, "list.csv", f"{mark}path,label\r\na/ü.png,Käse 猫\r\n".encode(encoding))
    assert read_csv(file, base) == (["Käse 猫"], [base / "a" / "ü.png"])


SAID = {
    "latin-1": r"Line 2 of {} is not UTF-8 \(byte 0xe9\); save the file as UTF-8\.",
    "bare utf-16": r"Line 1 of {} holds a zero byte, which no text does; save the file as UTF-8\.",
    "torn utf-16": r"Line 1 of {} is not UTF-16-LE \(byte 0x0a\); save the file as UTF-8\.",
    "zero": r"Line 1 of {} holds a zero byte",
    "open quote": r"Line 2 of {} is no line of a CSV file \(unexpected end of data\); close its quotes",
    "long field": r"Line 1 of {} is no line of a CSV file \(field larger than field limit \(131072\)\)",
    "long path": r"Line 2 of {} names .{{200}}\.\.\., which is not there\.$",
    "one column": r"Line 1 of {} is 'a/1.png'; it must be path,label\.",
    "steering": r"Line 2 of {} names .*\?\[2Jb.png, which is not there",
    "huge": r"{} has 5,368,709,121 bytes, and a list of images at most 1,073,741,824",
}


@pytest.mark.parametrize("name", hostile.LISTS)
def test_mistakes(base: Path, name: str) -> None:
    file = hostile.LISTS[name](base)
    with pytest.raises(InputError, match=SAID[name].format(file)):
        read_csv(file, base)


def test_lines_are_counted_where_they_begin(tmp_path: Path) -> None:
    file = hostile.put(tmp_path, "x.csv", b'a,"one\ntwo"\n\nb,three\n')
    assert list(read_rows(file)) == [(1, ["a", "one\ntwo"]), (4, ["b", "three"])]
    file = hostile.put(tmp_path, "y.csv", "\ufeff\u0100\u0a41a".encode("utf-16-be")[:-1])  # 01 00 0a 41
    with pytest.raises(InputError, match=r"Line 1 of .* is not UTF-16-BE"):
        list(read_rows(file))


def test_class_lists(tmp_path: Path) -> None:
    hostile.put(tmp_path / "data" / "café", "1.png", hostile.png(4, 4))
    for part in ("train", "val", "test"):
        hostile.put(tmp_path / "splits" / "bertinetto", f"{part}.txt", "café\n".encode("utf-16"))
    found = split_lists(tmp_path)
    assert [part.listed().labels for part in found if part] == [["café"]] * 3
    file = hostile.put(tmp_path / "splits" / "bertinetto", "train.txt", "café".encode("latin-1"))
    with pytest.raises(InputError, match=f"Line 1 of {file} is not UTF-8"):
        split_lists(tmp_path)
    for name in ("..", "/", "x" * 5000):
        file.write_text(name)
        with pytest.raises(
            InputError, match=r"train.txt names class '.{1,203}', but there is no such folder in .*data"
        ):
            split_lists(tmp_path)


def test_paths_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "There is no user for the path ~nobody-at-all/x; write the folder out"
    with pytest.raises(InputError, match=said):
        datasets.create("folder", root="~nobody-at-all/x")
    for variable, find in (("FEWSHOT_KIT_DATA", datasets.find_root), ("FEWSHOT_KIT_CACHE", datasets.find_cache)):
        monkeypatch.setenv(variable, "~nobody-at-all/x")
        with pytest.raises(InputError, match=said):
            find()
