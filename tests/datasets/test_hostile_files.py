"""Images and archives that are damaged, crafted or of absurd size: one sentence, and little memory."""

from __future__ import annotations

import contextlib
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import hostile
import numpy as np
import pytest
from PIL import Image

from fewshot_kit.adaptation.inputs import read_examples
from fewshot_kit.datasets import Transform, find_images, load_images
from fewshot_kit.datasets.files import omniglot
from fewshot_kit.datasets.files.archives import in_tar, opened_zip, read_member
from fewshot_kit.datasets.files.images import decode
from fewshot_kit.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore:.*EXIF|.*TIFF|.*tag")
MEMORY = 300_000  # kB; a test that takes more has believed a size


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + MEMORY


SAID = {
    "long": r"cannot be read \(1 x 100,000,000 pixels are more than 89,478,485, or .*\); replace or remove it\.",
    "square": r"cannot be read \(12,000 x 12,000 pixels are more than 89,478,485,",
    "narrow": r"cannot be read \(1 x 80,000,000 pixels are more than 89,478,485, or than 1,000,000 on a side\)",
    "huge": r"cannot be read \(5,368,709,121 bytes are more than the 600,000,000 of the largest image\)",
}


@pytest.mark.parametrize("name", hostile.IMAGES)
def test_images(tmp_path: Path, name: str) -> None:
    path = hostile.IMAGES[name](tmp_path)
    for read in (lambda: decode(path, Transform(8, 3), str(path)), lambda: read_examples([path], None, 3)):
        said = pytest.raises(InputError, match=f"^The image {re.escape(str(path))} {SAID.get(name, 'cannot be read')}")
        with contextlib.suppress(InputError) if name.startswith("damaged") else said:
            read()


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"x.png cannot be read \(it is no file\)"):
        load_images([tmp_path / "x.png"], Transform(8))


def test_a_photo_beyond_pillows_limit_is_decoded_at_a_fraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the pixels that it has at an eighth of its size, as Pillow's own `draft` gives them."""
    ramp = np.linspace(0, 255, 640, dtype=np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (480, 640)).copy()).save(tmp_path / "x.jpg", quality=95)
    whole = decode(tmp_path / "x.jpg", Transform(8), "x").astype(int)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200_000)
    part = decode(tmp_path / "x.jpg", Transform(8), "x").astype(int)
    assert abs(whole - part).max() <= 4 and whole.max() - whole.min() > 100
    with pytest.raises(InputError, match="640 x 480 pixels are more than 200,000"):
        read_examples([tmp_path / "x.jpg"], None, 1)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"na\xc3\xafve"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        with open(os.path.join(folder, b"\xff.png"), "wb") as file:
            file.write(hostile.png(4, 4))
    labels, paths = find_images(tmp_path)
    assert sorted(labels) == ["caf\\xe9", "naïve"]
    assert load_images(paths, Transform(4)).shape == (2, 1, 4, 4)


TARS = {
    "negative": "a member ends at byte",
    "negative name": "a header of -512 bytes|negative",
    "past the end": "a member ends at byte|bytes are more than",
    "5 GB member": r"a/2.png: 5,368,709,120 bytes are more than the 600,000,000 of the largest image",
    "5 GB name": "a header of 5,368,709,120 bytes",
    "5 GB attributes": "a header of 5,368,709,120 bytes",
    "many names": "recursion",
    "torn map": "not enough values",
    "sparse": "a/2.png: it is stored with its zeros left out, as tar --sparse does",
    "gzip": "",
    "empty": "empty file",
}


@pytest.mark.parametrize("name", TARS)
def test_tars(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=rf"x.tar is no whole, uncompressed tar archive \(.*({TARS[name]}).*\); fetch"):
        in_tar(hostile.TARS[name](tmp_path))


def test_a_tar_whose_image_is_none(tmp_path: Path) -> None:
    listed = in_tar(hostile.TARS["not an image"](tmp_path))
    with pytest.raises(InputError, match=r"a/1.png in .*x.tar cannot be read"):
        decode(listed.read(0), Transform(8), listed.names[0])


ZIPS = {
    "encrypted": "is encrypted; unpack it with its password",
    "unknown method": r"cannot be read \(.*compression.*\); fetch the archive again",
    "damaged deflate": r"cannot be read \(.*\); fetch the archive again",
    "damaged lzma": r"cannot be read \(.*\); fetch the archive again",
    "unfolds": r"cannot be read \(Bad CRC-32.*\); fetch the archive again",
    "steering": r"^A/character01/\x1b\[2J\\n.png in \S+ is encrypted",
    "4 GB member": r"cannot be read \(4,294,967,294 bytes are more than",
    "huge": "x.zip has 5,368,709,121 bytes, more than the 1,073,741,824 that are read; unpack it.",
    "empty": r"x.zip is no zip archive \(File is not a zip file\); remove it and fetch it again.",
    "torn": "x.zip is no zip archive",
}


@pytest.mark.parametrize("name", ["far number", "long number"])
def test_numbers_that_no_character_has(tmp_path: Path, name: str) -> None:
    hostile.ZIPS[name](tmp_path).rename(tmp_path / "images_background.zip")
    with pytest.raises(InputError, match=r"images_background.zip has 0 of Omniglot's 964 characters\. Remove it"):
        omniglot.load("images_background", tmp_path, Transform(8), download=False)


@pytest.mark.parametrize("name", ZIPS)
def test_zips(tmp_path: Path, name: str) -> None:
    path = hostile.ZIPS[name](tmp_path)
    with pytest.raises(InputError, match=ZIPS[name]), opened_zip(path) as archive:
        read_member(archive, archive.namelist()[0], path)
