"""What is wrong with a user's arrays, in one sentence."""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import InputError
from .store import Store


def check_arrays(x: Tensor | Store, y: Tensor, classes: int, name: str) -> None:
    """Raise `InputError` where examples `[N, ...]` and class indices `[N]` do not fit, or values are not finite."""
    if len(x) != len(y):
        raise InputError(f"{name} has {len(x)} examples but {len(y)} labels; give one label for each.")
    if not len(x):
        raise InputError(f"{name} has no examples.")
    if y.dtype != torch.int64 or y.dim() != 1 or int(y.min()) < 0 or int(y.max()) >= classes:
        raise InputError(f"The labels of {name} must be int64 class indices [N] from 0 to {classes - 1}.")
    if isinstance(x, Tensor) and x.is_floating_point():
        bad = (~torch.isfinite(x.flatten(1) if x.dim() > 1 else x[:, None])).any(1).nonzero().flatten().tolist()
        if bad:
            raise InputError(
                f"{len(bad)} of the {len(x)} examples of {name} hold NaN or infinite values (the first is number "
                f"{bad[0]}, counted from 0); leave them out."
            )
