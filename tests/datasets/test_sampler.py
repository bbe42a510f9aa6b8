"""What is drawn: without replacement, uniformly, by the generator alone."""

from __future__ import annotations

import pytest
import torch

from fewshot_kit.datasets import Split
from fewshot_kit.datasets.splits.sampler import distinct
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(counts: list[int], **options: str) -> Split:
    """Vectors (class, number of the example), in shuffled order."""
    rows = torch.tensor([(label, index) for label, count in enumerate(counts) for index in range(count)])
    rows = rows[torch.randperm(len(rows), generator=generator())]
    return Split(rows.float(), rows[:, 0], [f"class {label}" for label in range(len(counts))], **options)


def ink(size: int = 6, classes: int = 7, each: int = 4) -> torch.Tensor:
    """Images without any symmetry."""
    return torch.randint(0, 256, (classes * each, 1, size, size), dtype=torch.uint8, generator=generator(9))


def images(rotations: str, classes: int = 7, each: int = 4) -> Split:
    y = torch.arange(classes).repeat_interleave(each)
    return Split(ink(classes=classes, each=each), y, [f"c{i}" for i in range(classes)], rotations=rotations)


def identify(split: Split, x: torch.Tensor) -> tuple[int, int]:
    """Class and quarter turns of an image, by comparison with `torch.rot90` of every stored one."""
    for label, stored in zip(split.y.tolist(), split.x, strict=True):
        for quarter in range(4):
            if torch.equal(torch.rot90(stored.float() / 255, quarter, (-2, -1)), x):
                return label, quarter
    raise AssertionError("an image that is not in the split")


def test_distinct_numbers_are_uniform_permutations() -> None:
    drawn = distinct(torch.full((60_000,), 3), 3, generator())
    kinds, counts = drawn.unique(dim=0, return_counts=True)
    assert kinds.tolist() == [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    assert (counts - 10_000).abs().max() < 500  # five deviations


def test_classes_of_one_size_are_drawn_as_those_of_several() -> None:
    """So that a seed gives the same episodes, whichever way is taken."""
    equal = distinct(torch.full((4, 5), 9), 3, generator())
    sizes = torch.full((4, 5), 9)
    sizes[3, 4] = 8
    assert torch.equal(distinct(sizes, 3, generator())[:3], equal[:3])


def test_episode_shapes_and_order() -> None:
    episode = numbered([9] * 8).episodes(5, 2, 3, 4, generator())
    assert [tuple(t.shape) for t in episode] == [(4, 10, 2), (4, 10), (4, 15, 2), (4, 15)]
    assert episode.support_y.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 4
    assert episode.query_y[0].tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert episode.support_y.dtype == episode.query_y.dtype == torch.int64


def test_support_and_query_share_no_example_and_labels_follow_classes() -> None:
    episode = numbered([5, 9, 30, 6, 7, 12]).episodes(4, 2, 3, 50, generator())
    for task in range(50):
        rows = torch.cat([episode.support_x[task], episode.query_x[task]])
        assert len(rows.unique(dim=0)) == 4 * 5
        labels = torch.cat([episode.support_y[task], episode.query_y[task]])
        pairs = torch.stack([labels.float(), rows[:, 0]], 1).unique(dim=0)
        assert len(pairs) == 4  # one class for a label, one label for a class


def test_every_example_and_class_is_equally_likely() -> None:
    counts = [3, 5, 8]
    episode = numbered(counts).episodes(2, 1, 1, 30_000, generator())
    rows = torch.cat([episode.support_x.flatten(0, 1), episode.query_x.flatten(0, 1)])
    for label, count in enumerate(counts):
        of_class = rows[rows[:, 0] == label]
        assert abs(len(of_class) / len(rows) - 1 / 3) < 0.01
        seen = of_class[:, 1].long().bincount(minlength=count) / len(of_class)
        assert (seen - 1 / count).abs().max() < 0.01
    # Every label is given to every class equally often.
    first = episode.support_x[:, 0, 0].long().bincount() / 30_000
    assert (first - 1 / 3).abs().max() < 0.015


def test_all_of_a_small_class_can_be_drawn() -> None:
    episode = numbered([3, 40]).episodes(2, 1, 2, 20, generator())
    for task in range(20):
        rows = torch.cat([episode.support_x[task], episode.query_x[task]])
        small = rows[rows[:, 0] == 0][:, 1].tolist()
        assert sorted(small) == [0, 1, 2]


def test_the_generator_decides_everything() -> None:
    split = images("per_class")
    before = torch.get_rng_state()
    first, again = (split.episodes(3, 1, 2, 4, generator(5)) for _ in range(2))
    other = split.episodes(3, 1, 2, 4, generator(6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.query_x, other.query_x)
    assert not torch.equal(split.episodes(3, 1, 2, 4).query_x, split.episodes(3, 1, 2, 4).query_x)
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_goes_on() -> None:
    split, one = numbered([9] * 20), generator()
    assert not torch.equal(split.episodes(5, 1, 1, 3, one).support_x, split.episodes(5, 1, 1, 3, one).support_x)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_same_episodes_on_a_gpu() -> None:
    split = images("classes")
    here, there = split.episodes(3, 1, 2, 4, generator()), split.episodes(3, 1, 2, 4, generator(), "cuda")
    assert all(tensor.is_cuda for tensor in there)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("rotations", ["none", "classes"])
def test_a_gpu_is_not_waited_for_and_holds_one_store(rotations: str) -> None:
    split = images(rotations)
    split.episodes(3, 1, 2, 4, generator(), "cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        split.episodes(3, 1, 2, 4, generator(), "cuda:0")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(split._on_device) == 2  # the CPU's and the GPU's


def test_labels_are_tensors_of_their_own() -> None:
    episode = images("none").episodes(3, 1, 1, 2, generator())
    episode.support_y[0, 0] = 2
    assert episode.support_y.tolist() == [[2, 1, 2], [0, 1, 2]] and episode.query_y.tolist() == [[0, 1, 2]] * 2


def test_device_is_taken_from_the_argument() -> None:
    episode = images("none").episodes(3, 1, 2, 4, generator(), device="meta")
    assert {tensor.device.type for tensor in (episode.support_x, episode.query_x)} == {"meta"}


def test_uint8_images_become_floats_and_others_stay() -> None:
    split = images("none")
    x = split.episodes(3, 1, 2, 4, generator()).support_x
    assert x.dtype == torch.float32 and x.min() >= 0 and 0.9 < x.max() <= 1
    assert (x * 255 - (x * 255).round()).abs().max() < 1e-4
    assert split[3][0].dtype == torch.float32 and len(split) == 28
    double = Split.from_arrays(torch.randn(8, 3, dtype=torch.float64, generator=generator()), list("aabbccdd"))
    assert double.episodes(2, 1, 1, 1).support_x.dtype == torch.float64
    assert double.classes == ["a", "b", "c", "d"] and double.image_size is None and double.example_shape == (3,)


def turns_of(split: Split, episode: Episode, task: int) -> list[list[tuple[int, int]]]:
    """Class and turns of every image, by label."""
    x = torch.cat([episode.support_x[task], episode.query_x[task]])
    y = torch.cat([episode.support_y[task], episode.query_y[task]])
    return [[identify(split, image) for image in x[y == label]] for label in range(int(y.max()) + 1)]


def test_no_rotation() -> None:
    split = images("none")
    episode = split.episodes(3, 1, 2, 5, generator())
    assert {turn for task in range(5) for group in turns_of(split, episode, task) for _, turn in group} == {0}


def test_rotated_classes_are_classes_of_their_own() -> None:
    split = images("classes")
    assert len(split.classes) == 28 and split.classes[7] == "c0/rot090" and split.classes[27] == "c6/rot270"
    episode = split.episodes(10, 1, 2, 12, generator())  # more ways than there are classes without rotation
    together = 0
    for task in range(12):
        groups = turns_of(split, episode, task)
        assert all(len(set(group)) == 1 for group in groups)  # one class, one turn for each label
        kinds = [group[0] for group in groups]
        assert len(set(kinds)) == 10
        together += len({label for label, _ in kinds}) < 10
    assert together > 0
    assert split.x.shape[0] == 28  # and no image was copied


def test_one_rotation_per_class() -> None:
    split = images("per_class")
    episode = split.episodes(4, 1, 2, 20, generator())
    groups = [turns_of(split, episode, task) for task in range(20)]
    assert all(len(set(group)) == 1 for task in groups for group in task)
    assert all(len({group[0][0] for group in task}) == 4 for task in groups)  # a class never meets itself
    assert any(len({group[0][1] for group in task}) > 1 for task in groups)
    assert len(split.classes) == 7


def test_one_rotation_per_episode() -> None:
    split = images("per_episode")
    episode = split.episodes(4, 1, 2, 20, generator())
    turns = [{turn for group in turns_of(split, episode, task) for _, turn in group} for task in range(20)]
    assert all(len(found) == 1 for found in turns)
    assert set().union(*turns) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((4, 1, 1), "4 ways are more than the 3 classes of data"),
        ((2, 2, 4), "Class 'class 0' of data has 5 examples, too few for 2 shots \\+ 4 queries = 6"),
        ((2, 0, 1), "shots is 0"),
        ((0, 1, 1), "ways is 0"),
        ((2, 1, 0), "queries is 0"),
        ((2, 1, 8), "and 1 more of its classes have too few"),
    ],
)
def test_what_cannot_be_drawn(numbers: tuple[int, int, int], message: str) -> None:
    split = numbered([5, 9, 8])
    for ask in (split.check, lambda *n: split.episodes(*n, 1), split.tasks):
        with pytest.raises(InputError, match=message):
            ask(*numbers)


def test_a_class_without_examples_is_named() -> None:
    split = Split(torch.rand(4, 2), torch.tensor([0, 0, 2, 2]), ["a", "empty", "c"])
    with pytest.raises(InputError, match=r"Class 'empty' of data has 0 examples, "):
        split.check(2, 1, 1)


def test_bad_meta_batch() -> None:
    split = numbered([5, 5])
    with pytest.raises(InputError, match=r"meta_batch is 0"):
        split.episodes(2, 1, 1, 0)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (torch.rand(4, 2), [0, 1, 0], {}, "4 examples but 3 labels"),
        (torch.rand(0, 2), [], {}, "no examples"),
        (torch.tensor([[1.0], [float("nan")], [2.0], [float("inf")]]), [0, 1, 0, 1], {}, "2 of the 4 .* number 1"),
        (torch.rand(4, 2), [0, 1, 0, 1], {"rotations": "classes"}, "Only square images can be rotated"),
        (torch.rand(4, 1, 2, 3), [0, 1, 0, 1], {"rotations": "per_class"}, "Only square images .* \\[1, 2, 3\\]"),
        (torch.rand(4, 1, 2, 2), [0, 1, 0, 1], {"rotations": "some"}, "Unknown rotations 'some'.*per_episode"),
    ],
)
def test_bad_arrays(x: torch.Tensor, y: list[int], options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Split.from_arrays(x, y, **options)


@pytest.mark.parametrize("y", [[0, 1, 3], [-1, 0, 1], [0.0, 1.0, 2.0]])
def test_labels_outside_the_classes(y: list[float]) -> None:
    with pytest.raises(InputError, match="class indices \\[N\\] from 0 to 2"):
        Split(torch.rand(3, 2), torch.tensor(y), ["a", "b", "c"])
