"""Replacements for some of PyTorch's operators under `vmap`."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .convolutions import conv2d
from .norms import batch_norm, instance_norm, layer_norm

NORMS = {
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    F.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
}


class Operators(TorchFunctionMode):
    """A context in which norms run from plain operators and, if asked for, 2D convolutions as matrix products."""

    def __init__(self, unfold: bool = False) -> None:
        super().__init__()
        self.replaced: dict[Any, Any] = NORMS | ({F.conv2d: conv2d} if unfold else {})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.replaced.get(func, func)(*args, **(kwargs or {}))
