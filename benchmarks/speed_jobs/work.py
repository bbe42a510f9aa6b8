"""The work that contestants are compared on: one mean meta-gradient of one model over one meta-batch."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_kit.episodes import Episode, unstack


@dataclass(frozen=True)
class Work:
    """The mean, over the tasks, of the slope of the query loss after `steps` inner steps.

    Whoever does it takes copies of the model, and so everybody starts from the same weights.
    """

    model: nn.Module
    episodes: Episode  # with a leading T
    algorithm: str = "maml"
    lr: float = 0.4
    steps: int = 1
    first_order: bool = False
    options: dict[str, Any] = field(default_factory=dict)  # of the kit's algorithm, where it is no inner loop

    @property
    def tasks(self) -> list[Episode]:
        """The episodes one by one."""
        return unstack(self.episodes)

    def part(self, tasks: int, dtype: torch.dtype | None = None) -> Work:
        """The same work on the first tasks only, and in another dtype where one is given."""
        model, episodes = copy.deepcopy(self.model).to(dtype=dtype), Episode(*(t[:tasks] for t in self.episodes))
        if dtype is not None:
            episodes = Episode(*(t.to(dtype) if t.is_floating_point() else t for t in episodes))
        return dataclasses.replace(self, model=model, episodes=episodes)


class Prepared(NamedTuple):
    """A contestant that is ready to run."""

    call: Callable[[], Any]  # one unit of work; of a meta-gradient it gives the slopes, in the parameters' order
    note: str = ""  # what it has chosen, for the page
    make_again: Callable[[Work], Prepared] | None = None  # for other work, with what it has chosen


Make = Callable[[Work], Prepared]


def criterion(scores: Tensor, targets: Tensor) -> Tensor:
    """What everybody minimises: cross-entropy, or the mean squared error of floats."""
    if targets.is_floating_point():
        return F.mse_loss(scores.view_as(targets), targets)
    return F.cross_entropy(scores, targets)


def sinusoids(tasks: int, shots: int = 10, queries: int = 10, seed: int = 0) -> Episode:
    """MAML's regression tasks: amplitude 0.1 to 5, phase 0 to pi, x from -5 to 5."""
    generator = torch.Generator().manual_seed(seed)
    amplitude = 0.1 + 4.9 * torch.rand(tasks, 1, generator=generator)
    phase = math.pi * torch.rand(tasks, 1, generator=generator)
    x = 10 * torch.rand(tasks, shots + queries, 1, generator=generator) - 5
    y = amplitude * torch.sin(x[..., 0] - phase)
    return Episode(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:])


def distance(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """How far two meta-gradients lie apart, in terms of the second one's length."""
    pairs = [(_flat(one), _flat(other)) for one, other in zip(found, expected, strict=True)]
    apart = torch.cat([one - other for one, other in pairs]).norm()
    return float(apart / torch.cat([other for _, other in pairs]).norm())


def _flat(slope: Any) -> Tensor:
    plain = slope.detach().cpu() if isinstance(slope, Tensor) else torch.from_numpy(np.array(slope))  # of JAX
    return plain.double().flatten()
