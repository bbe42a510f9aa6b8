"""One process's part of a split's meta-batches: drawn as all processes draw them, but gathered for its slice alone."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...episodes import Episode
from .split import Split


class Part(Split):
    """The same split, which gathers the episodes `part` of every meta-batch of `meta_batch` episodes."""

    def __init__(self, split: Split, meta_batch: int, part: slice) -> None:
        self.__dict__ |= vars(split)
        self._meta_batch, self._part = meta_batch, part

    def episodes(self, *arguments: Any, **named: Any) -> Episode:
        """The slice's episodes of what `Split.episodes` draws."""
        return super().episodes(*arguments, **named | {"part": self._part})

    def labelled(self, count: int, *arguments: Any, **named: Any) -> tuple[Tensor, Tensor]:
        """The slice's share of what `Split.labelled` draws."""
        each = count // self._meta_batch
        rows = slice(self._part.start * each, self._part.stop * each)
        return super().labelled(count, *arguments, **named | {"part": rows})
