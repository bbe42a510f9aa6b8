"""Checks a user's arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError, first_line
from .store import Store


def check_arrays(x: Tensor | Store, y: Tensor, classes: int, name: str) -> None:
    """Raises `InputError` if examples `[N, ...]` and class indices `[N]` do not fit, or if values are not finite."""
    for what, given, kind in (("examples", x, Tensor | Store), ("labels", y, Tensor)):
        if not isinstance(given, kind):
            raise InputError(
                f"The {what} of {name} are a {type(given).__name__}; give a tensor, or use Split.from_arrays."
            )
    if len(x) != len(y):
        raise InputError(f"{name} has {len(x)} examples but {len(y)} labels; give one label for each.")
    if not len(x):
        raise InputError(f"{name} has no examples.")
    if y.dtype != torch.int64 or y.dim() != 1 or int(y.min()) < 0 or int(y.max()) >= classes:
        raise InputError(f"The labels of {name} must be int64 class indices [N] from 0 to {classes - 1}.")
    # The least and the largest value are NaN if any is, and take a twentieth of the time and none of the memory.
    if isinstance(x, Tensor) and x.is_floating_point() and x.numel() and not torch.stack(x.aminmax()).isfinite().all():
        bad = (~torch.isfinite(x.flatten(1) if x.dim() > 1 else x[:, None])).any(1).nonzero().flatten().tolist()
        raise InputError(
            f"{len(bad)} of the {len(x)} examples of {name} hold NaN or infinite values (the first is number "
            f"{bad[0]}, counted from 0); leave them out."
        )


def as_examples(x: Any, name: str) -> Tensor:
    """Arrays, lists or a tensor as one tensor `[N, ...]`; `InputError` where they are of several shapes."""
    try:
        x = torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"The examples of {name} make no tensor ({first_line(error)}); give numbers, in arrays of one shape."
        ) from error
    if not x.dim():
        raise InputError(f"The examples of {name} are one number, {x.item()}; give a batch of them, [N, ...].")
    return x


def as_labels(y: Any, name: str) -> list[Hashable]:
    """One label for each example, of any list, array, tensor or generator; those of shape `[N, 1]` as `[N]`."""
    y = y.tolist() if hasattr(y, "tolist") else y
    if isinstance(y, str | bytes | Mapping) or not isinstance(y, Iterable):
        raise InputError(f"The labels of {name} are {y!r}, no list; give one label for each example.")
    labels = [label[0] if isinstance(label, list) and len(label) == 1 else label for label in y]
    odd = next((place for place, label in enumerate(labels) if label is None or not isinstance(label, Hashable)), None)
    if odd is not None:
        raise InputError(f"Label {odd} of {name} is {labels[odd]!r}; give one int or string for each example.")
    return labels
