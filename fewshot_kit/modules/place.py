"""Finds devices, and the device and dtype of a module."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..errors import InputError, first_line


def find_device(device: torch.device | str) -> torch.device:
    """Returns a device by name; raises `InputError` if the machine does not have it."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"'{device}' is no device: {first_line(error)}; take 'cpu', 'cuda' or 'cuda:1'.") from error
    if found.type == "meta":
        raise InputError("The device 'meta' holds no values; leave device= out or take device='cpu'.")
    try:
        return torch.empty(0, device=found).device  # "cuda" becomes "cuda:0"
    except (AssertionError, RuntimeError) as error:  # a build without CUDA raises the first, a missing GPU the second
        said = first_line(error).split(". ")[0]
        raise InputError(
            f"The device '{device}' is not there: {said}; leave device= out or take device='cpu'."
        ) from error


def place_of(module: nn.Module) -> dict[str, Any]:
    """Returns device and dtype of a module's first parameter, as keyword arguments; the defaults if it has none."""
    first = next(module.parameters(), torch.empty(0))
    return {"device": first.device, "dtype": first.dtype}


def device_of(module: nn.Module) -> torch.device:
    """Returns the device of a module's first parameter; the CPU if it has none."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def dtype_of(module: nn.Module) -> torch.dtype:
    """Returns the first floating dtype among a module's parameters; float32 if it has none."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
