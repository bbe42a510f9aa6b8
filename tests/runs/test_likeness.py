"""Images that are nothing like what a run was trained on are noticed, and held-back classes never are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from command_line import TINY
from PIL import Image
from small_runs import centroids, forget_digests, train
from torch import Tensor

from fewshot_kit import datasets
from fewshot_kit.datasets import Data
from fewshot_kit.runs.config import read_config, write_config
from fewshot_kit.runs.likeness import Statistics, measured, shorter_sides, unlike

GREYISH = Statistics(mean=0.5, mean_spread=0.1, deviation=0.2, deviation_spread=0.05, grey=1, detail=0.1)


def support_sets(data: Data, count: int = 20) -> list[Tensor]:
    """Of the test classes, of one and of five shots."""
    generator, found = torch.Generator().manual_seed(0), []
    for index in range(count):
        drawn = data.test.draw(5, (1, 5)[index % 2], 1, generator)
        found.append(data.test.x[drawn.images.flatten()])
    return found


def test_by_hand() -> None:
    halves = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    halves[0, ..., 0], halves[1] = 255, 51
    # Means 0.5 and 0.2; deviations 0.5 and 0; neighbours differ by 1 and 0.
    assert measured(halves) == Statistics(0.35, 0.15, 0.25, 0.25, 1, 0.5)
    red = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    red[:, 0] = 255
    assert measured(red) == Statistics(0.3333, 0, 0.4714, 0, 0, 0)  # a deviation of sqrt(2) / 3
    assert measured(red.expand(1300, -1, -1, -1)) == measured(red)


@pytest.mark.parametrize("value", [5, 250])
def test_more_than_five_spreads_are_far(value: int) -> None:
    images = torch.full((1, 1, 8, 8), value, dtype=torch.uint8)
    assert unlike(images, GREYISH, [8]) is None
    near = Statistics(**{**vars(GREYISH), "mean_spread": 0.05})
    assert "a mean of" in str(unlike(images, near, [8]))
    same = Statistics(**{**vars(GREYISH), "mean": value / 255, "mean_spread": 0, "deviation": 0})
    assert unlike(images, same, [8]) is None  # rounding is no difference, though all images were alike


@pytest.mark.parametrize("size", [14, 28])
def test_glyphs(size: int) -> None:
    data = datasets.create("glyphs", image_size=size)
    recorded = measured(data.train.x)
    for images in support_sets(data):
        assert unlike(images, recorded, [size]) is None
        assert "much brighter" in str(unlike(255 - images, recorded, [size]))
        assert str(unlike(255 - images, recorded, [size])).endswith("; inverted they would fit)")
    for drawing in data.test.x[::40]:
        assert unlike(drawing[None], recorded, [size]) is None


def test_omniglot_and_photos(data_root: Path) -> None:
    if not (data_root / "mini-imagenet").is_dir():
        pytest.skip(f"no mini-ImageNet in {data_root}")
    drawings = datasets.create("omniglot", root=str(data_root), download=False)
    photos = datasets.create("mini_imagenet", root=str(data_root))
    recorded, in_colour = measured(drawings.train.x), measured(photos.train.x)
    for images in support_sets(drawings):
        assert unlike(images, recorded, [105]) is None
        assert "inverted they would fit" in str(unlike(255 - images, recorded, [105]))
        blown_up = torch.nn.functional.interpolate(images, 84).expand(-1, 3, -1, -1)
        assert "they are grey, not in colour" in str(unlike(blown_up, in_colour, [105]))
    for images in support_sets(photos):
        assert unlike(images, in_colour, [84]) is None
        assert "they are in colour, not grey" in str(unlike(images, measured(blown_up), [84]))
        grey = images.float().mean(1, keepdim=True)
        small = torch.nn.functional.interpolate(grey, (28, 28), mode="area").byte()
        assert all("brighter" in str(unlike(each, recorded, [84])) for each in (small, 255 - small))
        tiny = torch.nn.functional.interpolate(images.float(), (20, 20), mode="area")
        enlarged = torch.nn.functional.interpolate(tiny, (84, 84), mode="bicubic").clamp(0, 255).byte()
        assert unlike(enlarged, in_colour, [20]) == "they are small and blurred (20 pixels, enlarged to 84)"
        assert unlike(images, in_colour, [32]) is None  # small too, and no less sharp than those were


def draw(folder: Path, *, invert: bool) -> None:
    """Two classes of glyphs as files, dark ink on white paper or inverted."""
    test = datasets.create("glyphs", classes=30, drawings=6, image_size=40).test
    for label in (0, 1):
        (folder / str(label)).mkdir(parents=True)
        for number, image in enumerate(test.x[test.y == label][:, 0]):
            pixels = image if invert else 255 - image
            Image.fromarray(pixels.numpy()).save(folder / str(label) / f"{number}.png")


def test_adapt_warns_in_one_line(cli) -> None:
    cli.good(f"train {TINY} --run run --iterations 0")
    draw(Path("paper"), invert=False)
    draw(Path("black"), invert=True)
    assert shorter_sides(["paper/0/0.png"]) == [40]
    assert cli("adapt run paper paper").err == ""
    said = cli("adapt run black paper")
    assert said.err.startswith(
        "fewshot-kit: The support images are nothing like what the run was trained on: they are "
    )
    assert said.err.count("\n") == 1 and len(said.out.splitlines()) > 12
    assert cli("adapt run paper black/0/0.png").err.startswith("fewshot-kit: The images to classify are nothing like")
    assert cli("adapt run black paper --quiet").err == ""

    config = read_config("run")
    del config["data"]["statistics"]  # as a run of an earlier version
    write_config("run", config)
    forget_digests("run")
    assert cli("adapt run black paper").err == ""
    cli.good("train --run run --resume")
    cli.good("train --run run --resume --iterations 1")
    assert cli("adapt run black paper").err != ""


def test_features_have_no_such_statistics(tmp_path: Path) -> None:
    train(centroids(), iterations=0, run=tmp_path)
    assert "statistics" not in read_config(tmp_path)["data"]
