"""What the package asks of PyTorch's insides, for want of a public name: nothing else in it touches `torch._C`."""

from __future__ import annotations

import torch
from torch import Tensor


def inside_transform() -> bool:
    """Whether `vmap`, `torch.func.grad` or another transform is at work.

    `autograd.grad` and `requires_grad_()` fail there, and `torch.func.grad` is slower by a tenth elsewhere, so that
    what runs in both has to know. PyTorch calls it `torch._C._are_functorch_transforms_active`.
    """
    return torch._C._are_functorch_transforms_active()


def unbatched(tensor: Tensor) -> Tensor:
    """Inside `vmap` what all of its tasks have, with a dimension more for each `vmap`; elsewhere the tensor as it is.

    A number of outputs cannot differ from task to task, so that it has to be the largest of all tasks. PyTorch calls
    it `torch._C._functorch.is_batchedtensor` and `get_unwrapped`.
    """
    while torch._C._functorch.is_batchedtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor
