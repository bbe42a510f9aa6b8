"""What a split and a data set of anybody's have to offer. Those of the kit (`Split`, `Data`) offer more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...episodes import Episode
from ...errors import InputError


class TaskSplit(Protocol):
    """What training and evaluation ask of a split: tasks. They need no classes: sine waves are such a split."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def example_shape(self) -> torch.Size:
        """Shape of one example, as a model sees it."""

    def check(self, ways: int, shots: int, queries: int) -> None:
        """Raise `InputError` where such tasks cannot be drawn."""

    def episodes(
        self,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Episode:
        """A meta-batch of `meta_batch` tasks on the device, with that as the leading dimension of each tensor.

        Args:
            ways, shots, queries: classes of a task, support and query examples of each.
            generator: on the CPU; its state alone decides what is drawn.
        """


@runtime_checkable
class LabelledSplit(TaskSplit, Protocol):
    """A split of examples that each have a class, also one by one: `split[i]` is `(x, class index)`."""

    @property
    def classes(self) -> Sequence[str]:
        """Their names."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]: ...

    def labelled(
        self, count: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Examples of all classes, drawn uniformly, `[count, ...]`, and their class indices `[count]`."""

    def episodes(
        self,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dirichlet: float | None = None,
    ) -> Episode:
        """As `TaskSplit.episodes`; the queries' class proportions are from Dirichlet(dirichlet), where it is given."""


class DataSet(Protocol):
    """What training asks of a data set: splits with no class or task in common."""

    @property
    def train(self) -> TaskSplit:
        """Learned from."""

    @property
    def validation(self) -> TaskSplit | None:
        """Decides which weights are kept; None keeps the last ones."""

    @property
    def test(self) -> TaskSplit:
        """Left alone."""


def check_split(split: Any, taker: str) -> None:
    """Raises `InputError`, which names the function `taker`, for what is no split, such as a whole data set."""
    if hasattr(split, "episodes"):
        return
    kind = type(split).__name__
    if hasattr(split, "test"):
        raise InputError(f"{taker} takes a split, and {kind} is a data set; give one of its splits, such as data.test.")
    raise InputError(f"{taker} takes a split, not {kind}; give one of a data set's, such as data.test.")


def check_data_set(data: Any, taker: str) -> None:
    """Raises `InputError`, which names the function `taker`, for what is no data set, such as a single split."""
    missing = [name for name in ("train", "validation", "test") if not hasattr(data, name)]
    if missing:
        raise InputError(
            f"{taker} takes a data set with the splits train, validation (or None) and test, and "
            f"{type(data).__name__} has no {missing[0]}; give datasets.Data(name, train, validation, test, {{}})."
        )


def with_classes(split: TaskSplit, who: str) -> LabelledSplit:
    """The split, for what needs its classes. Raises `InputError`, which names `who`, where it has none."""
    if isinstance(split, LabelledSplit):
        return split
    raise InputError(f"{who} needs labelled examples, and {split.name} has no classes; take another data set.")
