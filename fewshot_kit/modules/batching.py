"""Many examples through a network, as many at once as memory allows for."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

VALUES = 2**23  # input values at a time: 55 images of 3 x 224 x 224, every vector of most data sets


def in_batches(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`run(x)` in parts along the first dimension, for what gives each example its own row.

    The memory of a part does not grow with the number of examples. All at once where a graph is kept, since its memory
    is needed anyway, and inside `vmap`.
    """
    each = max(1, VALUES // max(1, x[0].numel())) if len(x) else 1
    if len(x) <= each or torch.is_grad_enabled():
        return run(x)
    return torch.cat([run(part) for part in x.split(each)])
