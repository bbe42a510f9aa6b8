"""The package's only calls of `torch._C`, for functions of PyTorch that have no public name."""

from __future__ import annotations

import torch
from torch import Tensor


def inside_transform() -> bool:
    """Returns whether the code runs inside `vmap`, `torch.func.grad` or another transform.

    Code that runs both inside and outside has to know: `autograd.grad` and `requires_grad_()` fail inside, and
    `torch.func.grad` is slower by a tenth outside. PyTorch's name is `torch._C._are_functorch_transforms_active`.
    """
    return torch._C._are_functorch_transforms_active()


def unbatched(tensor: Tensor) -> Tensor:
    """Returns the tensor of all tasks, with one more dimension for each `vmap`; outside `vmap`, the tensor as it is.

    The number of outputs must be the same for all tasks, so it follows from the largest value over all of them.
    PyTorch's names are `torch._C._functorch.is_batchedtensor` and `get_unwrapped`.
    """
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
