"""The built-in characters: the same for a seed, different between seeds, drawn as characters are."""

from __future__ import annotations

import zlib

import pytest
import torch

from fewshot_kit import datasets
from fewshot_kit.datasets import Data, Split, Transform
from fewshot_kit.datasets.strokes import _spline, render
from fewshot_kit.errors import InputError


@pytest.fixture(scope="module")
def glyphs() -> Data:
    made = datasets.create("glyphs")
    assert isinstance(made, Data)
    return made


def test_counts(glyphs: Data) -> None:
    splits = [glyphs.train, glyphs.validation, glyphs.test]
    assert [len(split.classes) for split in splits if split] == [192, 48, 60]
    assert len({name for split in splits if split for name in split.classes}) == 300
    assert glyphs.test.x.shape == (1200, 1, 28, 28) and (glyphs.test.y.bincount() == 20).all()
    assert (
        glyphs.test.channels == 1
        and glyphs.test.image_size == 28
        and glyphs.transform == Transform(28, channels=1, invert=True)
    )


def test_a_seed_gives_the_same_images(glyphs: Data) -> None:
    before = torch.get_rng_state()
    assert torch.equal(datasets.create("glyphs").test.x, glyphs.test.x)
    assert not torch.equal(datasets.create("glyphs", seed=1).test.x, glyphs.test.x)
    assert torch.equal(before, torch.get_rng_state())


def test_the_images_of_seed_0_stay_what_they_are() -> None:
    """Numbers seen when the drawing was settled: results on glyphs are only comparable while they hold."""
    small = datasets.create("glyphs", classes=8, drawings=3)
    assert [zlib.crc32(split.x.numpy().tobytes()) for split in (small.train, small.test)] == [3391134761, 3733201850]


def test_every_image_has_ink_and_paper(glyphs: Data) -> None:
    covered = (glyphs.train.x > 0).flatten(1).float().mean(1)
    assert covered.min() > 0.015 and covered.max() < 0.5 and 0.08 < covered.mean() < 0.2
    assert (glyphs.train.x.flatten(1).amax(1) > 200).all()


def pixel_neighbour_accuracy(split: Split, episodes: int) -> float:
    """1-shot accuracy of the nearest support image, 5-way; standard error about 0.01 for 300 episodes."""
    episode = split.episodes(5, 1, 5, episodes, torch.Generator().manual_seed(0))
    nearest = torch.cdist(episode.query_x.flatten(2), episode.support_x.flatten(2)).argmin(-1)
    return float((nearest == episode.query_y).float().mean())


def test_learnable_but_not_trivial(glyphs: Data) -> None:
    assert 0.35 < pixel_neighbour_accuracy(glyphs.test, 300) < 0.75  # Omniglot's own is about 0.45


def test_a_drawer_has_a_style(glyphs: Data) -> None:
    """Drawing k of every character is by the same hand: ink differs more between drawers than chance allows."""
    ink = glyphs.train.x.float().flatten(1).mean(1).view(-1, 20)
    by_drawer = ink.mean(0).std() / (ink.std() / len(ink) ** 0.5)
    assert by_drawer > 3


def test_other_sizes() -> None:
    data = datasets.create("glyphs", classes=10, drawings=2, image_size=84)
    assert data.train.x.shape == (12, 1, 84, 84)
    small = datasets.create("glyphs", classes=10, drawings=2, image_size=28)
    shrunk = torch.nn.functional.avg_pool2d(data.train.x.float(), 3)
    assert (shrunk - small.train.x.float()).abs().mean() < 8  # the same characters, drawn finer


def test_a_spline_through_points_on_a_line_stays_on_it_and_meets_its_ends() -> None:
    weights = _spline(5, 50)
    assert torch.allclose(weights.sum(1), torch.ones(50, dtype=torch.float64)) and weights.min() >= 0
    line = weights @ torch.arange(5, dtype=torch.float64)
    assert line[0] == 0 and abs(line[-1] - 4) < 1e-12 and (line.diff() > 0).all()


def test_ink_lies_where_the_pen_went() -> None:
    stroke = torch.zeros(1, 4, 5, 2, dtype=torch.float64)
    stroke[0, 0] = torch.tensor([[0.2, 0.5], [0.3, 0.5], [0.5, 0.5], [0.7, 0.5], [0.8, 0.5]])  # (x, y): a level line
    used = torch.tensor([[True, False, False, False]])
    image = render(stroke, used, torch.tensor([0.1], dtype=torch.float64), 20)[0, 0]  # a pen of 2 pixels' radius
    assert image[8:12, 5:15].min() > 250  # two pixels above and below the middle of the image
    assert image[:7].max() == image[13:].max() == image[:, :1].max() == image[:, -1:].max() == 0
    assert torch.equal(image, image.flip(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 3}, "glyphs has 3 classes: too few to split"),
        ({"drawings": 1}, "drawings is 1; at least 2"),
        ({"image_size": 4}, "image_size is 4; glyphs need at least 8"),
        ({"rotations": "sometimes"}, "Unknown rotations 'sometimes'"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        datasets.create("glyphs", **options)


class TestOnTheFly:
    """Characters that are drawn when an episode asks for them."""

    @staticmethod
    def made(**options):
        return datasets.create("glyphs", classes=20, drawings=5, image_size=14, on_the_fly=True, **options)

    def test_an_image_is_the_same_however_it_is_asked_for(self):
        split = self.made().train
        whole = split.x[:]
        assert whole.shape == split.x.shape
        assert whole.dtype == torch.uint8
        rows = torch.tensor([7, 7, 0, 31, len(split) - 1])
        assert torch.equal(split.x.index_select(0, rows), whole[rows])
        assert torch.equal(split.x[9], whole[9])
        assert torch.equal(split.x[3:8], whole[3:8])
        assert split.x.index_select(0, rows[:0]).shape == (0, 1, 14, 14)

    def test_episodes_are_those_of_a_split_that_holds_the_images(self):
        split = self.made(rotations="classes").train
        held = Split(split.x[:], split.y, split._stored_classes, rotations="classes", transform=split.transform)
        found, expected = (
            each.episodes(5, 1, 3, meta_batch=4, generator=torch.Generator().manual_seed(2)) for each in (split, held)
        )
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)

    def test_characters_differ_between_classes_splits_and_seeds_and_drawings_are_alike(self):
        data, other = self.made(), self.made(seed=1)
        images = torch.cat([split.x[:] for split in (data.train, data.validation, data.test, other.train)]).float()
        assert len(images.flatten(1).unique(dim=0)) == len(images)
        own = data.train.x[:].float().view(-1, 5, 196)
        centres = own.mean(1)
        nearest = torch.cdist(own.flatten(0, 1), centres).argmin(-1)
        assert (nearest == torch.arange(len(own)).repeat_interleave(5)).double().mean() > 0.9

    def test_a_million_characters_take_no_time(self):
        data = datasets.create("glyphs", classes=10**6, drawings=4, on_the_fly=True)
        drawn = data.train.episodes(5, 1, 2, meta_batch=2, generator=torch.Generator().manual_seed(0))
        assert drawn.query_x.shape == (2, 10, 1, 28, 28)
        assert len(data.train.classes) == 640_000
