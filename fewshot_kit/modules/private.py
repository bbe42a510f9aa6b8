"""The package's only calls of PyTorch's insides (`torch._C`, `torch._inductor`), which have no public name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule


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


def unguarded(recorded: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """Returns what `torch.compile` would make of a recorded function, without the checks before every call.

    The checks take as long as a small program, so callers have to make sure that shapes, strides, dtypes and devices
    stay those of `inputs`. PyTorch's name is `torch._inductor.compile`.
    """
    import torch._inductor  # takes seconds

    found: Callable[..., Any] = torch._inductor.compile(recorded, list(inputs))
    return found
