"""Lists of images and classes: any bytes, text of what such lists hold in any encoding, and changed ones."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
from fuzzing import changed, outcome
from hypothesis import given
from hypothesis import strategies as st

from fewshot_kit.datasets.cifar_fs import split_lists
from fewshot_kit.datasets.files.layouts import split_csv
from fewshot_kit.datasets.files.lists import read_csv, read_rows, read_text

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1")
PARTS = ["a/1.png", "a/ü.png", "1.png", "cat", "filename", "label", ",", ",", "\n", "\n", "\r\n", "\r", '"', '""', " ",
         "\t", "\0", "\ufeff", "\u2028", "\x1c", "\x85", "..", "/", "/etc/passwd", "~", "猫", "x" * 300, "x" * 140_000,
         "a/1.png,cat\n", "a/1.png,dog\n", "path,label\n"]  # fmt: skip


def encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "replace")


LISTS = st.one_of(
    st.binary(max_size=100),
    st.builds(encoded, st.lists(st.sampled_from(PARTS), max_size=12).map("".join), st.sampled_from(ENCODINGS)),
    st.builds(encoded, st.text(max_size=60), st.sampled_from(ENCODINGS)),
    changed("path,label\na/1.png,Käse\n\"a/1.png\",'dog, large'\n".encode("utf-16")),
    changed(b'path,label\na/1.png,cat\n"a/1.png","dog, large"\n'),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images in every layout that takes lists."""
    folder = tmp_path_factory.mktemp("lists")
    for place in ("a", "data/cat", "data/x", "images", "images/a"):
        hostile.put(folder / place, "1.png", hostile.png(4, 4))
    for place, end in (("splits/bertinetto", "txt"), (".", "csv")):
        for name in ("train", "val", "test"):
            hostile.put(folder / place, f"{name}.{end}", b"")
    return folder


@given(content=LISTS)
def test_lists(base: Path, content: bytes) -> None:
    file = hostile.put(base, "list.csv", content)
    outcome(lambda: read_text(file))
    outcome(lambda: list(read_rows(file)))
    found = outcome(lambda: read_csv(file, base))
    if found is not None:
        labels, paths = found
        assert len(labels) == len(paths) > 0 and all(path.is_file() for path in paths)
    hostile.put(base / "splits" / "bertinetto", "val.txt", content)
    listed = outcome(lambda: split_lists(base))
    if listed is not None:
        assert all(part is not None and set(part.listed().labels) <= {"cat", "x"} for part in listed)
    hostile.put(base, "train.csv", content)
    outcome(lambda: split_csv(base))
