"""Comparisons for the checks, with messages about the differences."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

STORED = ("running_mean", "running_var", "num_batches_tracked")
ROUNDING = 2e-9  # an inner Adam divides by 1e-8, also a gradient that is only rounding error


def close(one: Tensor, other: Tensor, what: str) -> None:
    """Asserts that float64 tensors are equal up to rounding. `what` starts the message."""
    apart = float((one - other).detach().abs().max()) if one.shape == other.shape else float("inf")
    assert torch.allclose(one, other, rtol=1e-9, atol=ROUNDING), f"{what}, by up to {apart:.1e}."


def snapshot(module: nn.Module) -> dict[str, Any]:
    """Returns everything about a module that running it must leave alone."""
    return {
        "modes": [m.training for m in module.modules()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "gradients": [p.grad is None for p in module.parameters()],
        "attributes": [set(vars(m)) for m in module.modules()],
        "random": torch.get_rng_state(),
        "tensors": copy.deepcopy(module.state_dict()),
    }


def same(before: dict[str, Any], after: dict[str, Any], who: str) -> None:
    """Asserts that two snapshots are the same. `who` starts the message."""
    for what in ("modes", "requires_grad", "gradients", "attributes"):
        assert before[what] == after[what], f"{who} changes the {what} of a module."
    assert torch.equal(before["random"], after["random"]), (
        f"{who} draws from the global RNG in a model without dropout."
    )
    # Batch norm's stored statistics move in train mode, as in PyTorch. Engines restore them.
    moving = STORED if any(before["modes"]) else ()
    kept = {name: tensor for name, tensor in before["tensors"].items() if not name.endswith(moving)}
    changed = [name for name, tensor in kept.items() if not torch.equal(tensor, after["tensors"][name])]
    assert not changed, f"{who} changes {', '.join(changed)}; it must leave the algorithm as it was."
