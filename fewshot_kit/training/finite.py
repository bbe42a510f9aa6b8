"""What training does about a loss or gradient that is not finite: it stops and says where, or skips the update."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..errors import InputError

ON_NAN = ("stop", "skip")


def check_on_nan(on_nan: str) -> None:
    """Raises `InputError` for what cannot be done about such an iteration."""
    if on_nan not in ON_NAN:
        raise InputError(f"on_nan is {on_nan!r}; it must be one of {', '.join(ON_NAN)}.")


class Figures(NamedTuple):
    """The figures of an iteration, read from the device."""

    iteration: int
    means: dict[str, float]  # the loss, and the accuracy of classes
    losses: list[float]  # of each episode
    slopes: dict[str, float]  # the largest absolute gradient of each parameter that has one

    @property
    def finite(self) -> bool:
        """Whether the update could be taken."""
        return math.isfinite(self.means["loss"]) and all(map(math.isfinite, self.slopes.values()))

    def trouble(self, seed: int) -> str:
        """What is not finite, in words: the episode, and the first such gradient, or the largest if all are finite."""
        count, odd = len(self.losses), [place for place, loss in enumerate(self.losses, 1) if not math.isfinite(loss)]
        others = f" (and of {len(odd) - 1} more)" if odd[1:] else ""
        which = f"loss of episode {odd[0]} of {count}{others}" if odd else f"meta-gradient of {count} finite losses"
        told = f"The {which} is not finite at iteration {self.iteration} of seed {seed}"
        wrong = [name for name, slope in self.slopes.items() if not math.isfinite(slope)]
        if wrong:
            among = f", the first of {len(wrong)} such parameters" if wrong[1:] else ""
            return f"{told}, nor is the gradient of '{wrong[0]}'{among}"
        if not self.slopes:
            return told
        largest = max(self.slopes, key=lambda name: self.slopes[name])
        return f"{told}; the largest gradient is that of '{largest}', {self.slopes[largest]:.1e}"

    def line(self, skipped: int) -> dict[str, Any]:
        """The line of `metrics.jsonl`. That of a skipped update has null for NaN, and the number of those so far."""
        if self.finite:
            return {"iteration": self.iteration, **self.means}
        means = {name: value if math.isfinite(value) else None for name, value in self.means.items()}
        return {"iteration": self.iteration, **means, "skipped": skipped}


class Measured(NamedTuple):
    """The figures of an iteration, on the device yet, where reading them back would wait for all that was started."""

    iteration: int
    means: dict[str, Tensor]  # the loss, and the accuracy of classes
    losses: Tensor  # [T]
    slopes: Tensor  # [P]
    names: list[str]  # of the P parameters

    @property
    def finite(self) -> Tensor:
        """As `Figures.finite`, on the device."""
        return self.means["loss"].isfinite() & self.slopes.isfinite().all()

    def joined(self) -> Tensor:
        """All of it end to end, in float64."""
        return torch.cat([torch.stack([mean.double() for mean in self.means.values()]), self.losses, self.slopes])

    def read(self, values: list[float]) -> Figures:
        """The figures, from the values of `joined`."""
        means, losses = len(self.means), len(self.losses)
        slopes = dict(zip(self.names, values[means + losses :], strict=True))
        found = dict(zip(self.means, values[:means], strict=True))
        return Figures(self.iteration, found, values[means : means + losses], slopes)


def measured(iteration: int, algorithm: Algorithm, losses: Tensor, means: dict[str, Tensor]) -> Measured:
    """What an iteration's losses `[T]` and gradients are, without waiting for the device; `means` are others."""
    slopes = {name: p.grad for name, p in algorithm.named_parameters() if p.grad is not None and p.grad.numel()}
    # The largest absolute value is not finite if any is not, and unlike a norm it does not overflow.
    largest = [torch.linalg.vector_norm(slope, math.inf).double() for slope in slopes.values()]
    stacked = torch.stack(largest) if largest else losses.new_empty(0, dtype=torch.float64)
    return Measured(iteration, {"loss": losses.mean(), **means}, losses.double(), stacked, list(slopes))


def read(unread: list[Measured]) -> list[Figures]:
    """The figures of several iterations, in one transfer from the device."""
    joined = [each.joined() for each in unread]
    values = torch.cat(joined).tolist()
    ends = torch.tensor([len(one) for one in joined]).cumsum(0).tolist()
    return [each.read(values[end - len(one) : end]) for each, one, end in zip(unread, joined, ends, strict=True)]


def buffers_of(algorithm: Algorithm) -> dict[str, Tensor]:
    """Copies of all buffers, to go back to."""
    return {name: buffer.detach().clone() for name, buffer in algorithm.named_buffers()}


def leave_out(
    found: Measured, optimizer: torch.optim.Optimizer, algorithm: Algorithm, before: dict[str, Tensor]
) -> None:
    """Makes the next step of a fused Adam do nothing, and puts the buffers back, if the iteration is not finite.

    The device itself decides, as it does for `torch.amp.GradScaler`, so nothing waits for it: neither parameters nor
    Adam's moments and count of steps change.

    Args:
        before: the buffers before the meta-batch.
    """
    finite = found.finite
    optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
    for name, buffer in algorithm.named_buffers():
        buffer.detach().copy_(torch.where(finite, buffer, before[name]))
