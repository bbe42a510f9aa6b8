"""Image files to tensors: conversion, resizing, and what is said of files that cannot be read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_kit.datasets import Transform, find_images, load_image_folder, load_images
from fewshot_kit.datasets.files.images import decode, from_any
from fewshot_kit.errors import InputError


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_pixels_pass_unchanged_at_their_own_size(tmp_path: Path) -> None:
    pixels = noise(5, 5, 3)
    path = save(tmp_path / "a.png", pixels)
    assert np.array_equal(load_images([path], Transform(5, 3))[0].numpy(), pixels.transpose(2, 0, 1))
    grey = save(tmp_path / "b.png", pixels[..., 0])
    assert np.array_equal(load_images([grey], Transform(5, 1))[0, 0].numpy(), pixels[..., 0])
    inverted = load_images([grey], Transform(5, 1, invert=True))[0, 0].numpy()
    assert np.array_equal(inverted, 255 - pixels[..., 0])


def test_what_is_not_square_is_cropped_at_its_centre(tmp_path: Path) -> None:
    pixels = noise(4, 8)
    path = save(tmp_path / "wide.png", pixels)
    assert np.array_equal(load_images([path], Transform(4))[0, 0].numpy(), pixels[:, 2:6])


def test_transparency_is_white_paper(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)  # black ink, fully transparent
    pixels[1, 1, 3] = 255  # but for one opaque pixel
    expected = np.full((4, 4), 255)
    expected[1, 1] = 0
    assert np.array_equal(load_images([save(tmp_path / "a.png", pixels)], Transform(4))[0, 0].numpy(), expected)


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    pixels = np.array([[0, 257], [257 * 100, 65535]], np.uint16)
    assert load_images([save(tmp_path / "a.png", pixels)], Transform(2))[0, 0].tolist() == [[0, 1], [100, 255]]


def test_a_photo_is_turned_upright(tmp_path: Path) -> None:
    pixels = noise(6, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    path = save(tmp_path / "a.png", pixels, exif=exif)
    assert np.array_equal(load_images([path], Transform(6))[0, 0].numpy(), np.rot90(pixels, -1))


def test_one_bit_drawings_are_antialiased_unless_the_old_way_is_asked_for(data_root: Path) -> None:
    with zipfile.ZipFile(data_root / "omniglot-py" / "images_background.zip") as archive:
        content = archive.read(next(name for name in archive.namelist() if "/Futurama/" in name))
    with Image.open(io.BytesIO(content)) as drawing:
        assert drawing.mode == "1"
        old = np.asarray(drawing.resize((28, 28), Image.Resampling.LANCZOS).convert("L"))
        good = np.asarray(drawing.convert("L").resize((28, 28), Image.Resampling.LANCZOS))
    nearest = decode(content, Transform(28, resample="nearest"), "drawing")[0]
    lanczos = decode(content, Transform(28), "drawing")[0]
    assert np.array_equal(nearest, old) and set(np.unique(nearest)) == {0, 255}
    assert np.array_equal(lanczos, good) and len(np.unique(lanczos)) > 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "image_size is 0"),
        ({"image_size": 8, "channels": 2}, "channels is 2; it must be 1 \\(grey\\) or 3"),
        ({"image_size": 8, "resample": "best"}, "Unknown resample 'best'; it is one of lanczos"),
    ],
)
def test_bad_transforms(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Transform(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif"])
def test_truncated_and_corrupt_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"torn.{suffix}", noise(64, 64, 3))
    whole = path.read_bytes()
    assert load_images([path], Transform(8, 3)).shape == (1, 3, 8, 8)
    for content in (whole[: len(whole) // 2], b"<html>not found</html>", b""):
        path.write_bytes(content)
        with pytest.raises(InputError, match=f"torn.{suffix} cannot be read"):
            load_images([path], Transform(8, 3))


def test_missing_image_and_empty_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no image .*gone.png"):
        load_images([tmp_path / "gone.png"], Transform(8))
    with pytest.raises(InputError, match=r"no images to load"):
        load_images([], Transform(8))


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for index, name in enumerate(["cat/2.png", "cat/1.PNG", "dog/deeper/a.jpg", ".hidden/x.png", "loose.png"]):
        save(tmp_path / name, np.full((4, 4), index * 10, np.uint8))
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "._1.png").write_bytes(b"what macOS leaves")
    (tmp_path / "empty").mkdir()
    x, labels, paths = load_image_folder(tmp_path, Transform(4))
    assert labels == ["cat", "cat", "dog"]
    assert [path.name for path in paths] == ["1.PNG", "2.png", "a.jpg"]
    assert x.shape == (3, 1, 4, 4) and x.dtype == torch.uint8 and x[:2, 0, 0, 0].tolist() == [10, 0]


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no folder .*nowhere"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"has no images in class folders; put them as .*CLASS/IMAGE.png"):
        find_images(tmp_path)


def test_examples_of_other_libraries() -> None:
    pixels = noise(4, 6, 3)
    assert from_any(pixels).shape == from_any(Image.fromarray(pixels)).shape == (3, 4, 6)
    assert from_any(pixels[..., 0]).shape == from_any(Image.fromarray(pixels[..., 0])).shape == (1, 4, 6)
    assert from_any(pixels.transpose(2, 0, 1)).shape == (3, 4, 6)
    assert from_any(np.zeros((4, 6))).shape == (4, 6)
