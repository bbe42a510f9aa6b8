"""Inner steps that are computed again in the outer backward pass, in place of keeping what they saved for it.

Chen, Xu, Zhang and Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, on the steps of an inner loop. A
step keeps its arguments alone, so that memory grows with the number of steps by one set of parameters each.

`torch.utils.checkpoint` gives the same gradients. But the gradient inside a step makes it run the step's forward pass
twice before the outer backward pass begins, which took 1.9 times the time of a plain loop, where this takes 1.4 times.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ...errors import InputError
from ...modules.private import inside_transform
from ...seeds import repeatable

Result = TypeVar("Result")
Within = Callable[[], contextlib.AbstractContextManager[Any]]
VECTORISED = "checkpoint=True inside of a transform of torch.func"  # said to `engines.refusals`, which explains it


class _Saved:
    """A tensor that autograd saved in a step. It is None until the step is computed again."""

    __slots__ = ("__weakref__", "kind", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.kind = tensor.shape, tensor.dtype
        # Without its graph: an operator that saves its own output would keep itself alive.
        self.tensor: Tensor | None = tensor.detach()


def recomputed(step: Callable[..., Result], within: Within, device: torch.device, *arguments: Any) -> Result:
    """Returns `step(*arguments)`, whose saved tensors are dropped at the end and computed again when they are needed.

    The gradients are those of a plain call, to any order and bit by bit. What the step draws from PyTorch's default
    generators is drawn again. It must not depend on other things that change, such as Python's `random`.

    Args:
        step: the function. It may take gradients inside.
        within: makes the context in which the step is computed again, which is the one that it was first called in.
        device: the device of the draws.

    Raises:
        InputError: the step saved other tensors when it was computed again.
        RuntimeError: inside `vmap` and other transforms, which take no hooks of saved tensors.
    """
    if inside_transform():
        raise RuntimeError(VECTORISED)
    made: list[weakref.ref[_Saved]] = []
    drawn = repeatable(device)

    def pack(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        made.append(weakref.ref(saved))
        return saved

    def unpack(saved: _Saved) -> Tensor:
        if saved.tensor is None:
            again()
        if saved.tensor is None or (saved.tensor.shape, saved.tensor.dtype) != saved.kind:
            raise InputError(
                "An inner step did not do the same when checkpoint=True computed it again; leave checkpoint=True out, "
                "or let the model depend on its inputs and PyTorch's random numbers alone."
            )
        return saved.tensor

    def again() -> None:
        following = iter(made)

        def refill(tensor: Tensor) -> Tensor:
            place = next(following, None)
            saved = place() if place else None  # None if no graph needs this tensor any more
            alone = tensor.detach()
            if saved is not None:
                saved.tensor = alone
            return alone

        with drawn(), within(), torch.enable_grad(), saved_tensors_hooks(refill, _itself):
            step(*arguments)

    with saved_tensors_hooks(pack, unpack):
        found = step(*arguments)
    for place in made:
        if saved := place():
            saved.tensor = None
    return found


def _itself(tensor: Tensor) -> Tensor:
    return tensor
