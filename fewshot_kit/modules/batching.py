"""Runs a network on many examples in batches that fit in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

VALUES = 2**23  # input values of a batch, such as 55 images of 3 x 224 x 224


def in_batches(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Returns `run(x)`, computed in batches along the first dimension; `run` must give each example its own row.

    The memory of a batch does not grow with the number of examples. All examples run at once if gradients are enabled,
    since the graph needs the memory anyway.
    """
    each = max(1, VALUES // max(1, x[0].numel())) if len(x) else 1
    if len(x) <= each or torch.is_grad_enabled():
        return run(x)
    return torch.cat([run(part) for part in x.split(each)])
