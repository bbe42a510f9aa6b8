"""Small copies of published data sets: all of their classes, one or two images each, in every layout.

Class k's image j is of one colour that tells both: red and green are k, blue is j.
"""

from __future__ import annotations

import functools
import io
import random
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from fewshot_kit.datasets import Data
from fewshot_kit.datasets.splits.class_splits import by_counts

NAMES = ("train", "val", "test")
Parts = Sequence[Sequence[int]]  # class numbers of training, validation and test

MINI = by_counts((64, 16, 20), 0)
TIERED = by_counts((351, 97, 160), 0)
BIRDS = [list(range(0, 200, 2)), list(range(1, 200, 4)), list(range(3, 200, 4))]


def wnid(number: int) -> str:
    return f"n{number:08d}"


def bird(number: int) -> str:
    return f"{number + 1:03d}.Bird_{number % 7}"


@functools.cache
def png(number: int, image: int) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256, image)).save(content, "PNG")
    return content.getvalue()


def images_of(part: Sequence[int], each: int) -> Iterator[tuple[str, str, bytes]]:
    """Class name, file name and content of every image."""
    for number in part:
        for image in range(each):
            yield wnid(number), f"{wnid(number)}{image:08d}.png", png(number, image)


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def folders(base: Path, parts: Parts, each: int = 2, names: Sequence[str] = NAMES) -> Path:
    for name, part in zip(names, parts, strict=True):
        for label, file, content in images_of(part, each):
            write(base / name / label / file, content)
    return base


def tars(base: Path, parts: Parts, each: int = 2) -> Path:
    """In no order, with what else tars have in them."""
    base.mkdir(parents=True, exist_ok=True)
    for name, part in zip(NAMES, parts, strict=True):
        found = [(f"./{name}/{label}/{file}", content) for label, file, content in images_of(part, each)]
        found += [(f"./{name}/README.txt", b"text"), (f"./{name}/{wnid(part[0])}/._{wnid(part[0])}.png", b"macOS")]
        random.Random(0).shuffle(found)
        with tarfile.open(base / f"{name}.tar", "w") as archive:
            for member, content in found:
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return base


def csvs(base: Path, parts: Parts, each: int = 2) -> Path:
    """In no order."""
    for name, part in zip(NAMES, parts, strict=True):
        lines = []
        for label, file, content in images_of(part, each):
            write(base / "images" / file, content)
            lines.append(f"{file},{label}")
        random.Random(0).shuffle(lines)
        (base / f"{name}.csv").write_text("\n".join(["filename,label", *lines, ""]))
    return base


def lists(base: Path, parts: Parts, each: int = 2) -> Path:
    for name, part in zip(NAMES, parts, strict=True):
        for label, file, content in images_of(part, each):
            write(base / "data" / label / file, content)
        write(base / "splits" / "bertinetto" / f"{name}.txt", "\n".join(map(wnid, reversed(part))).encode())
    return base


def birds(base: Path, each: int = 2) -> Path:
    names = [f"{bird(number)}/Bird_{image}_{number}.png" for number in range(200) for image in range(each)]
    for number in range(200):
        for image in range(each):
            write(base / "images" / names[number * each + image], png(number, image))
    write(base / "images.txt", "".join(f"{index} {name}\n" for index, name in enumerate(names, 1)).encode())
    return base


def check(data: Data, parts: Parts, each: int = 2, name: Callable[[int], str] = wnid) -> None:
    """All of these classes in these splits, with all of their images, in order."""
    splits = [data.train, data.validation, data.test]
    for split, part in zip(splits, parts, strict=True):
        assert split is not None and split.classes == [name(number) for number in sorted(part)]
        assert split.x.dtype == torch.uint8 and len(split) == each * len(part)
        assert torch.equal(split.y, torch.arange(len(part)).repeat_interleave(each))
        number, image = code(split.x)
        assert torch.equal(number, torch.tensor(sorted(part)).repeat_interleave(each))
        assert torch.equal(image, torch.arange(each).repeat(len(part)))


def code(x: Tensor) -> tuple[Tensor, Tensor]:
    """The class and image numbers that the colours tell; every pixel of an image must tell the same."""
    colours = x.flatten(2).long()
    assert (colours == colours[..., :1]).all()
    red, green, blue = colours[..., 0].unbind(1)
    return red + 256 * green, blue
