"""learn2learn's view of a split draws what `episodes` draws."""

from __future__ import annotations

import pytest
import torch

from fewshot_kit import compat, episodes
from fewshot_kit.datasets import Split
from fewshot_kit.errors import InputError


@pytest.fixture(scope="module")
def split() -> Split:
    """Images of one pixel each, whose value is their number; classes of 2 to 7 images."""
    y = torch.cat([torch.full((label + 2,), label) for label in range(6)])
    x = torch.arange(len(y), dtype=torch.float32)[:, None, None, None]
    return Split(x, y, [str(label) for label in range(6)], rotations="classes")


def test_it_is_learn2learns_own(split: Split) -> None:
    tasks = split.tasks(5, 1, 1, generator=torch.Generator().manual_seed(0))
    data = compat.learn2learn().data
    assert isinstance(tasks, data.TaskDataset) and isinstance(tasks.dataset, data.MetaDataset)
    assert tasks.dataset.labels_to_indices[1] == [2, 3, 4] and len(tasks.dataset) == 27
    x, y = tasks.sample()
    assert x.shape == (10, 1, 1, 1) and y.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    episode = episodes.split(x, y, shots=1)
    assert episode.support_x.shape == episode.query_x.shape == (5, 1, 1, 1)


def test_the_same_generator_gives_the_same_task_as_episodes(split: Split) -> None:
    x, y = split.tasks(4, 1, 1, generator=torch.Generator().manual_seed(3))[0]
    episode = split.episodes(4, 1, 1, 1, torch.Generator().manual_seed(3))
    task = episodes.split(x, y, shots=1)
    assert torch.equal(task.support_x, episode.support_x[0]) and torch.equal(task.query_x, episode.query_x[0])
    assert torch.equal(task.query_y, episode.query_y[0])


def test_endless_and_counted_tasks(split: Split) -> None:
    endless = split.tasks(4, 1, 1, generator=torch.Generator().manual_seed(0))
    assert len(endless) == 1 and not torch.equal(endless[0][0], endless[0][0])
    counted = split.tasks(4, 1, 1, num_tasks=3, generator=torch.Generator().manual_seed(0))
    assert len(counted) == 3 and torch.equal(counted[1][0], counted[1][0])
    assert not torch.equal(counted[0][0], counted[1][0])
    assert len(list(counted)) == 3


def test_nothing_is_scanned(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an example was read to find its label")

    monkeypatch.setattr(Split, "__getitem__", refuse)
    split.tasks(4, 1, 1).sample()


def test_same_distribution_as_episodes(split: Split) -> None:
    """Frequencies of images, and of pairs of classes that meet in a task, agree within the noise of counting."""
    number = 3000
    tasks = split.tasks(3, 1, 1, generator=torch.Generator().manual_seed(1))
    one_way = torch.stack([tasks[0][0].flatten() for _ in range(number)]).long()
    episode = split.episodes(3, 1, 1, number, torch.Generator().manual_seed(2))
    support, query = episode.support_x.flatten(1), episode.query_x.flatten(1)
    other_way = torch.stack([support, query], 2).flatten(1).long()

    def chi_square(a: torch.Tensor, b: torch.Tensor, bins: int) -> float:
        first, second = (t.flatten().bincount(minlength=bins).double() for t in (a, b))
        used = (first + second) > 0
        return float((((first - second) ** 2) / (first + second))[used].sum() / used.sum())

    images = len(split)
    assert chi_square(one_way, other_way, images) < 2  # about 1 for 27 bins, deviation 0.27
    pairs = [drawn[:, 0] * images + drawn[:, 1] for drawn in (one_way, other_way)]
    assert chi_square(*pairs, images**2) < 1.5
    classes = [split.y[drawn][:, ::2].sort(1).values @ torch.tensor([36, 6, 1]) for drawn in (one_way, other_way)]
    assert chi_square(*classes, 216) < 2


@pytest.mark.parametrize("number", [0, -2])
def test_bad_number_of_tasks(split: Split, number: int) -> None:
    with pytest.raises(InputError, match=f"num_tasks is {number}"):
        split.tasks(2, 1, 1, num_tasks=number)


def test_learn2learns_own_transforms_run_on_a_split(split: Split) -> None:
    l2l = compat.learn2learn()
    meta = l2l.data.MetaDataset(split)
    transforms = [l2l.data.transforms.FusedNWaysKShots(meta, n=3, k=2), l2l.data.transforms.LoadData(meta)]
    x, _ = l2l.data.Taskset(meta, transforms).sample()
    assert x.shape == (6, 1, 1, 1)
