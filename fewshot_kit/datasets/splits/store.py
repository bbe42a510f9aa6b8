"""What a split may hold in place of a tensor: examples that are made when they are asked for."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Store(Protocol):
    """Examples `[N, ...]` of one shape and dtype."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device  # where they are made

    def __len__(self) -> int: ...

    def __getitem__(self, index: int | slice, /) -> Tensor:
        """An example, or those of a slice."""

    def dim(self) -> int:
        """Dimensions of the shape."""

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """The examples of these rows, in their order; `dim` is 0."""

    def to(self, device: torch.device, /) -> Store:
        """The store for episodes on that device. What is made elsewhere is sent there."""
