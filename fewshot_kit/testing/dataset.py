"""Checks of a data set for the trainer and the evaluator."""

from __future__ import annotations

import torch

from ..datasets.splits.contract import DataSet, LabelledSplit, with_classes
from ..episodes import Episode
from ..seeds import kept_random


def check_dataset(data: DataSet, ways: int = 2, shots: int = 1, queries: int = 1) -> None:
    """Checks everything that the trainer and the evaluator need from a data set of classes.

    Args:
        data: a data set with the splits `train`, `validation` (or None) and `test`.
        ways, shots, queries: sizes of the episodes to draw.

    Raises:
        AssertionError: the first check that fails.
        InputError: a split without classes, or one that cannot give such episodes, for example with too few images.
    """
    seen: dict[str, str] = {}
    for name, tasks in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        if tasks is None:
            assert name == "validation", f"The data set has no {name} split."
            continue
        split = with_classes(tasks, "check_dataset")
        for each in split.classes:
            assert each not in seen, f"The class {each!r} is in {seen[each]} and in {name}: splits share no class."
            seen[each] = name
        with kept_random(torch.device("cpu")):
            _check_split(split, ways, shots, queries)


def _check_split(split: LabelledSplit, ways: int, shots: int, queries: int) -> None:
    random = torch.get_rng_state()

    def drawn(seed: int) -> Episode:
        return split.episodes(ways, shots, queries, 3, generator=torch.Generator().manual_seed(seed))

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert torch.equal(random, torch.get_rng_state()), f"{split.name} draws from the global RNG, not the generator."
    shapes = [list(tensor.shape[:2]) for tensor in first]
    expected = [[3, ways * shots]] * 2 + [[3, ways * queries]] * 2
    assert shapes == expected, f"Episodes of {split.name} have the shapes {shapes}; they must be {expected}."
    assert list(first.support_x.shape[2:]) == list(split.example_shape), f"{split.name} has another example_shape."
    assert all(map(torch.equal, first, again)), f"The same generator draws other episodes of {split.name}."
    assert not all(map(torch.equal, first, other)), f"Every generator draws the same episodes of {split.name}."
    for number, (labels, each) in enumerate(((first.support_y, shots), (first.query_y, queries))):
        counts = [row.bincount(minlength=ways).tolist() for row in labels]
        what = ("support", "query")[number]
        assert counts == [[each] * ways] * 3, (
            f"The {what} labels of {split.name} are not {each} of each of 0 to {ways - 1}."
        )
    assert not (first.support_x.flatten(2)[:, :, None] == first.query_x.flatten(2)[:, None]).all(-1).any(), (
        f"A support example of {split.name} is among the queries of its episode."
    )
