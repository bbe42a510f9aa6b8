"""The corpus of `hostile`, by the readers of each kind. What each of them says is tested where the reader is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import pytest
from fuzzing import outcome

from fewshot_kit import disk
from fewshot_kit.adaptation.inputs import read_examples
from fewshot_kit.datasets import Transform
from fewshot_kit.datasets.files import omniglot
from fewshot_kit.datasets.files.archives import in_tar, opened_zip, read_member
from fewshot_kit.datasets.files.images import decode
from fewshot_kit.datasets.files.lists import read_csv
from fewshot_kit.experiments.settings import from_file
from fewshot_kit.models.weights import read_weights
from fewshot_kit.runs.checkpoints import rebuild
from fewshot_kit.runs.config import read_config_file

pytestmark = pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore:.*EXIF|.*TIFF|.*tag")


def in_zip(path: Path) -> None:
    with opened_zip(path) as archive:
        for name in archive.namelist():
            decode(read_member(archive, name, path), Transform(8), name)


def as_omniglot(path: Path) -> None:
    path.rename(path.with_name("images_background.zip"))
    omniglot.load("images_background", path.parent, Transform(8), download=False)


def all_in_tar(path: Path) -> None:
    listed = in_tar(path)
    for index, name in enumerate(listed.names):
        decode(listed.read(index), Transform(8), name)


READERS: dict[str, list[Callable[[Path], Any]]] = {
    "image": [lambda path: decode(path, Transform(8), str(path)), lambda path: read_examples([path], None, 3)],
    "list": [lambda path: read_csv(path, path.parent)],
    "tar": [all_in_tar],
    "zip": [in_zip, as_omniglot],
    "yaml": [lambda path: from_file(str(path)), read_config_file],
    "safetensors": [rebuild, read_weights, disk.metadata],
}


def test_every_kind_has_a_reader() -> None:
    assert READERS.keys() == hostile.EVERY.keys() - {"plug-in"}  # which is imported: tests/test_foreign.py


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in READERS for name in hostile.EVERY[kind]])
def test_corpus(tmp_path: Path, kind: str, name: str) -> None:
    hostile.put(tmp_path / "a", "1.png", hostile.png(4, 4))
    path = hostile.EVERY[kind][name](tmp_path)
    for read in READERS[kind]:
        outcome(lambda read=read: read(path))
