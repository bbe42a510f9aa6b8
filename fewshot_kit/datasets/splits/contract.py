"""Protocols that your own splits and data sets must fulfil. Those of the kit (`Split`, `Data`) offer more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ...episodes import Episode
from ...errors import InputError


class TaskSplit(Protocol):
    """A split that gives tasks, which is all that training and evaluation need. Sine waves are one without classes."""

    @property
    def name(self) -> str:
        """The split's name in messages."""

    @property
    def example_shape(self) -> torch.Size:
        """The shape of one example, as a model sees it."""

    def check(self, ways: int, shots: int, queries: int) -> None:
        """Raises `InputError` if such tasks cannot be drawn."""

    def episodes(
        self,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Episode:
        """Returns `meta_batch` tasks on the device. The leading dimension of each tensor counts the tasks.

        Args:
            ways, shots, queries: classes per task; support and query examples per class.
            generator: a CPU generator, whose state alone decides what is drawn.
        """


@runtime_checkable
class LabelledSplit(TaskSplit, Protocol):
    """A split whose examples have classes. `split[i]` is the single example `(x, class index)`."""

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]: ...

    def labelled(
        self, count: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns examples of all classes `[count, ...]`, drawn uniformly, and their class indices `[count]`."""

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
        """Returns tasks as in `TaskSplit.episodes`.

        Args:
            dirichlet: draw the queries' class proportions from Dirichlet(dirichlet).
        """


class DataSet(Protocol):
    """A data set, whose splits have no class or task in common."""

    @property
    def train(self) -> TaskSplit:
        """The split that is learned from."""

    @property
    def validation(self) -> TaskSplit | None:
        """The split that decides which weights are kept. If it is None, the last weights are kept."""

    @property
    def test(self) -> TaskSplit:
        """The split for the final test. Training does not use it."""


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
    """Returns the split as one with classes.

    Args:
        who: what needs the classes; the message names it.

    Raises:
        InputError: the split has no classes.
    """
    if isinstance(split, LabelledSplit):
        return split
    raise InputError(f"{who} needs labelled examples, and {split.name} has no classes; take another data set.")
