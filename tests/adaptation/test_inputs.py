"""Support sets and examples as people have them: the same pixels whatever they came in, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fewshot_kit import datasets, models
from fewshot_kit.adaptation.inputs import read_examples, read_support
from fewshot_kit.adaptation.pictures import channels_of
from fewshot_kit.datasets import Transform
from fewshot_kit.errors import InputError

COLOUR = Transform(8, 3, crop=0.875, mean=(0.5, 0.4, 0.3), deviation=(0.2, 0.25, 0.3))
GREY = Transform(8, 1, invert=True)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def photos(folder: Path, pixels: np.ndarray) -> list[Path]:
    """PNG files of uint8 `[N, H, W]` or `[N, H, W, C]`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(pixels))]
    for path, image in zip(paths, pixels, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.mark.parametrize("transform", [COLOUR, GREY])
@pytest.mark.parametrize("shape", [(12, 20, 3), (12, 20, 4), (12, 20), (8, 8, 3)])
def test_every_kind_of_image_gives_the_pixels_of_its_file(tmp_path: Path, transform: Transform, shape: tuple) -> None:
    pixels = noise(2, *shape)
    paths = photos(tmp_path, pixels)
    expected = transform.scaled(datasets.load_images(paths, transform))
    first = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    kinds = {
        "paths": paths,
        "texts": [str(path) for path in paths],
        "array of texts": np.array([str(path) for path in paths]),
        "folder": tmp_path,
        "Pillow images": [Image.fromarray(image) for image in pixels],
        "Pillow images of files": tuple(Image.open(path) for path in paths),
        "as they come": pixels,
        "generator": (image for image in pixels),
        "channels first": first,
        "tensor": torch.tensor(first),
        "list of tensors": list(torch.tensor(first)),
        "whole numbers": first.astype(np.int64),
        "16 bits": pixels.astype(np.uint16) * 257,
        "read-only and reversed": np.flip(np.flip(first, 0).copy(), 0),
    }
    if first.shape[1:] == transform.shape:  # a uint8 tensor of the network's own size has been decoded for it
        for kind in ("tensor", "list of tensors"):
            assert torch.equal(read_examples(kinds.pop(kind), transform, 3), transform.scaled(torch.tensor(first))), (
                kind
            )
    if shape[:2] != (8, 8):  # floats of the network's own size are not cropped
        kinds |= {
            "floats": pixels / 255,
            "float tensor": torch.tensor(first) / 255,
            "half": torch.tensor(first / 255).half(),
        }
    for kind, given in kinds.items():
        assert torch.equal(read_examples(given, transform, transform.channels), expected), kind
    for given in (paths[0], Image.open(paths[0])):
        assert torch.equal(read_examples(given, transform, transform.channels), expected[:1])


def test_images_of_different_sizes_go_through_the_transform(tmp_path: Path) -> None:
    pixels = [noise(10, 9, 3), noise(30, 14, 3), noise(9, 16)]
    expected = torch.cat([read_examples([Image.fromarray(image)], COLOUR, 3) for image in pixels])
    assert torch.equal(read_examples(pixels, COLOUR, 3), expected)
    assert torch.equal(read_examples([image / 255 for image in pixels], COLOUR, 3), expected)
    mixed = [photos(tmp_path, pixels[0][None])[0], *(Image.fromarray(image) for image in pixels[1:])]
    assert torch.equal(read_examples(mixed, COLOUR, 3), expected)


def test_floats_of_the_networks_size_are_only_normalised() -> None:
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (COLOUR.mean, COLOUR.deviation))
    torch.testing.assert_close(read_examples(x, COLOUR, 3), (x - mean) / deviation)
    torch.testing.assert_close(read_examples(x.permute(0, 2, 3, 1).numpy(), COLOUR, 3), (x - mean) / deviation)
    assert torch.equal(read_examples(x[:, :1], GREY, 1), x[:, :1])  # they are bright on black already


def test_floats_outside_0_to_1_are_left_alone() -> None:
    prepared = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read_examples(prepared, COLOUR, 3), prepared)
    assert torch.equal(read_examples(prepared.permute(0, 2, 3, 1).numpy(), COLOUR, 3), prepared)
    features = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read_examples(features, COLOUR, 3), features)


@pytest.mark.parametrize("channels", [3, 1, None])
def test_without_a_transform_bytes_are_scaled(tmp_path: Path, channels: int | None) -> None:
    pixels = noise(3, 12, 20, 3)
    expected = torch.tensor(pixels).permute(0, 3, 1, 2) / 255
    arrays = [pixels, list(pixels), torch.tensor(pixels).permute(0, 3, 1, 2)]
    images = [photos(tmp_path, pixels), [Image.fromarray(image) for image in pixels]]
    for given in arrays:
        assert torch.equal(read_examples(given, None, channels), expected)
    for given in images:
        if channels == 1:
            expected = (
                torch.stack([torch.tensor(np.asarray(Image.fromarray(i).convert("L")))[None] for i in pixels]) / 255
            )
        assert torch.equal(read_examples(given, None, channels), expected)


def test_without_a_transform_arrays_that_are_no_images_are_left_alone() -> None:
    for x in (torch.arange(6).view(3, 2), torch.randn(4, 5), torch.randn(4, 9, 9, 3), torch.randn(2, 7)[:0]):
        assert torch.equal(read_examples(x, None, None), x)
        assert torch.equal(read_examples(x.numpy(), None, None), x)
    assert torch.equal(read_examples(noise(2, 5, 7), None, None), torch.tensor(noise(2, 5, 7)) / 255)
    assert read_examples([[0.5, 1.0], [2, 3]], None, None).dtype == torch.float32
    assert read_examples([0.5, 1.5], None, None).tolist() == [0.5, 1.5]
    assert read_examples([[1, 2], [3, 4]], None, None).dtype == torch.int64
    assert read_examples(np.zeros((2, 3)), None, None).dtype == torch.float64
    assert read_examples(np.zeros((2, 3), ">f4"), None, None).dtype == torch.float32


def test_channels_are_found_and_brought_to_the_front() -> None:
    x = np.random.default_rng(0).random((2, 9, 8, 3))
    assert read_examples(x, None, 3).shape == (2, 3, 9, 8)
    assert read_examples(x[..., :1], None, 1).shape == (2, 1, 9, 8)
    assert read_examples(noise(2, 9, 8), None, 1).shape == (2, 1, 9, 8)
    assert read_examples(noise(2, 9, 8, 4), None, 4).shape == (2, 4, 9, 8)
    assert read_examples(np.zeros((2, 3, 3, 3)), None, 3).shape == (2, 3, 3, 3)
    assert read_examples(np.zeros((2, 9, 8, 5)), None, 5).shape == (2, 5, 9, 8)
    transparent = np.zeros((1, 4, 4, 4), np.uint8)  # black, and not to be seen at all
    assert read_examples(transparent, None, 3).tolist() == torch.ones(1, 3, 4, 4).tolist()


def test_grey_files_among_coloured_ones_get_colours() -> None:
    images = [Image.fromarray(noise(4, 6)), Image.fromarray(noise(4, 6, 3))]
    x = read_examples(images, None, None)
    assert x.shape == (2, 3, 4, 6) and torch.equal(x[0, 0], x[0, 2])


@pytest.mark.parametrize(
    ("model", "channels"),
    [
        (models.create("conv4", channels=3), 3),
        (models.create("conv4", channels=1), 1),
        (nn.Sequential(nn.BatchNorm2d(5), nn.Conv2d(5, 4, 3)), 5),
        (models.create("mlp"), None),
        (nn.Sequential(nn.Linear(4, 9), nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 4, 3)), None),
        (nn.Sequential(nn.LazyConv2d(4, 3)), None),
        (nn.Identity(), None),
    ],
)
def test_channels_of_a_network(model: nn.Module, channels: int | None) -> None:
    assert channels_of(model) == channels


def test_tensors_come_to_the_cpu_without_their_history() -> None:
    with torch.inference_mode():
        seen = torch.ones(2, 3)
    assert not read_examples(seen, None, None).is_inference()
    assert not read_examples(torch.ones(2, 3, requires_grad=True), None, None).requires_grad
    assert not read_examples(torch.ones(2, 3, 9, 9, requires_grad=True), COLOUR, 3).requires_grad


HWC = torch.zeros(2, 9, 9, 3)
SIZES = [Image.new("RGB", (5, 4)), Image.new("RGB", (5, 4)), Image.new("RGB", (7, 4))]


@pytest.mark.parametrize(
    ("x", "transform", "channels", "said"),
    [
        (HWC, None, 3, "has its 3 channels last, and torch has them first; give x.permute(0, 3, 1, 2)."),
        (HWC.byte(), COLOUR, 3, "x.permute(0, 3, 1, 2)"),
        (HWC[..., :1], None, 1, "has its 1 channel last"),
        ([HWC[0], HWC[0, 1:]], COLOUR, 3, "give x.permute(2, 0, 1)"),
        (SIZES, None, 3, "Example 2 has shape [3, 4, 7], the first one [3, 4, 5]; bring all to one size, or"),
        ([np.zeros(3), np.zeros(3), np.zeros(4)], None, None, "Example 2 has shape [4], the first one [3]"),
        ([np.full((9, 9, 3), -1.0), np.zeros((9, 8, 3))], COLOUR, 3, "Example 1 has shape [3, 9, 8], the first"),
        ([[1, 2], [1, [2, 3]]], None, None, "Example 1 has rows of different lengths"),
        ([np.zeros((3, 3)), SIZES[0]], None, 3, "Example 1 is of type Image, the first one of ndarray; give all"),
        ([], None, None, "There are no examples"),
        (7, None, None, "Examples cannot be of type int; give tensors, arrays, Pillow images or paths"),
        (None, None, None, "Examples cannot be of type NoneType"),
        ({"a": 1}, None, None, "Examples cannot be of type dict"),
        (torch.tensor(7), None, None, "The examples are one number, 7"),
        ([object()], None, None, "Example 0 is of type object, which holds no numbers"),
        (np.zeros(2, complex), None, None, "which holds no numbers"),
        (noise(9, 9, 3), COLOUR, 3, "Shape [9, 9, 3] may be one image in colour or 9 grey ones; give x[None]"),
        (noise(3, 9, 9), None, 3, "Shape [3, 9, 9] may be one image in colour or 3 grey ones; give x[None]"),
        (noise(2, 5, 9, 9), COLOUR, 3, "Example 0 has shape [5, 9, 9]; an image has shape [H, W], or 1, 3 or 4"),
        (noise(2, 9), COLOUR, 3, "Example 0 has shape [9]"),
        (np.full((2, 9, 9), 300), COLOUR, 3, "Example 0 holds 300 to 300; an image has values from 0 to 255."),
        (noise(2, 9, 9, 3).astype(float), COLOUR, 3, "The float images hold values from 0 to 255; give uint8 ones, or"),
        (["missing.png"], COLOUR, 3, "There is no image missing.png."),
        ("missing.png", None, 3, "There is no image missing.png."),
    ],
)  # fmt: skip
def test_what_is_refused(x: object, transform: Transform | None, channels: int | None, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_examples(x, transform, channels)
    assert said in str(caught.value) and str(caught.value).count("\n") == 0


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    paths = photos(tmp_path / "cat", noise(3, 40, 40, 3))
    photos(tmp_path / "dog", noise(1, 40, 40, 3))
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    for transform in (COLOUR, None):
        with pytest.raises(InputError, match="1.png cannot be read"):
            read_support(tmp_path, transform, 3)
        with Image.open(paths[1]) as image, pytest.raises(InputError, match="1.png cannot be read"):
            read_examples([image], transform, 3)


def test_nothing_is_changed_and_nothing_warns(tmp_path: Path) -> None:
    pixels = noise(2, 9, 9, 3)
    pixels.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = read_examples(pixels, None, 3)
    x += 1
    assert np.array_equal(pixels, noise(2, 9, 9, 3))


def test_without_a_transform_files_are_upright_opaque_and_of_eight_bits(tmp_path: Path) -> None:
    pixels = noise(6, 9)
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held on its side
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=turned)
    Image.fromarray(np.rot90(pixels, -1).astype(np.uint16) * 257).save(tmp_path / "b.png")
    seen = Image.fromarray(np.rot90(pixels, -1).copy())
    seen.putalpha(Image.new("L", seen.size, 255))
    seen.save(tmp_path / "c.png")
    expected = torch.tensor(np.rot90(pixels, -1).copy()) / 255
    assert torch.equal(read_examples(tmp_path, None, 1), expected.expand(3, 1, 9, 6))
