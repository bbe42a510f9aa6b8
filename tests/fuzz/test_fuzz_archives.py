"""Archives of images: changed tars (with checksums that are right) and zips, and the images in them."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import hostile
import pytest
from fuzzing import changed, outcome
from hypothesis import given
from hypothesis import strategies as st

from fewshot_kit.datasets import Transform
from fewshot_kit.datasets.files import omniglot
from fewshot_kit.datasets.files.archives import in_tar, opened_zip, read_member
from fewshot_kit.datasets.files.images import decode

BLOCK = tarfile.BLOCKSIZE
TRANSFORM = Transform(4)
KINDS = ("png", "jpeg", "webp", "tiff", "gif", "bmp")
NAMES = ["A/character01/1.png", "a/1.png", "./b/2.jpg", "a/" + "x" * 120 + "/3.gif", "ä/ü.webp"]


def tar(form: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as archive:
        for name, kind in zip(NAMES, KINDS, strict=False):
            info = tarfile.TarInfo(name)
            info.size = len(hostile.picture(kind, 8))
            archive.addfile(info, io.BytesIO(hostile.picture(kind, 8)))
    return content.getvalue()


def zipped(method: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, kind in zip(NAMES, KINDS, strict=False):
            archive.writestr(name, hostile.picture(kind, 8))
    return content.getvalue()


TARS = [tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]
TARS += [hostile.SPARSE + hostile.whole_member("a", hostile.padded(b"1\n0\n4\n") + b"data") + hostile.END]
ZIPS = [zipped(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)]


def signed(content: bytes) -> bytes:
    """The tar with a right checksum in whatever looks like a header, so that `tarfile` looks at the rest of it."""
    data = bytearray(content)
    for start in range(0, len(data) - BLOCK + 1, BLOCK):
        if data[start + 257 : start + 262] == b"ustar":
            data[start + 148 : start + 156] = b" " * 8
            data[start + 148 : start + 156] = b"%06o\0 " % sum(data[start : start + BLOCK])
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


def test_the_archives_themselves_are_read(folder: Path) -> None:
    for content in TARS[:3]:
        listed = in_tar(hostile.put(folder, "x.tar", content))
        assert [decode(listed.read(index), TRANSFORM, "x").shape for index in range(5)] == [(1, 4, 4)] * 5
    for content in ZIPS[:2]:
        path = hostile.put(folder, "x.zip", content)
        with opened_zip(path) as archive:
            assert len([decode(read_member(archive, name, path), TRANSFORM, name) for name in NAMES]) == 5


@given(content=st.one_of(*(changed(whole) for whole in TARS)), right=st.booleans())
def test_tars(folder: Path, content: bytes, right: bool) -> None:
    path = hostile.put(folder, "x.tar", signed(content) if right else content)
    listed = outcome(lambda: in_tar(path))
    for index, name in enumerate(listed.names if listed else []):
        outcome(lambda index=index, name=name: decode(listed.read(index), TRANSFORM, name))


@given(content=st.one_of(*(changed(whole) for whole in ZIPS)))
def test_zips(folder: Path, content: bytes) -> None:
    path = hostile.put(folder, "images_background.zip", content)
    outcome(lambda: omniglot.load("images_background", folder, TRANSFORM, download=False))
    archive = outcome(lambda: opened_zip(path))
    for name in archive.namelist() if archive else []:
        outcome(lambda name=name: decode(read_member(archive, name, path), TRANSFORM, name))


@given(content=st.one_of(*(changed(hostile.picture(kind, 8)) for kind in KINDS)))
def test_images(folder: Path, content: bytes) -> None:
    outcome(lambda: decode(content, TRANSFORM, "x"))
