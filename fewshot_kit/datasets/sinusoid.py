"""Sine waves: the regression of Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..episodes import Episode
from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .splits.data import Data
from .splits.sampler import fresh_generator

SPLITS = ("training", "validation", "test")


class Sines:
    """Draws tasks y = a sin(w x - p).

    The amplitude a is from 0.1 to 5, the phase p from 0 to pi, the frequency w from 1 - `spread` to 1 + `spread`, and x
    from -5 to 5, all uniform. The number of tasks is unlimited, so only their generators tell the three splits apart.
    """

    example_shape = torch.Size([1])

    def __init__(self, name: str, spread: float = 0.0) -> None:
        self.name, self.spread = name, spread

    def check(self, ways: int, shots: int, queries: int) -> None:
        """Raises `InputError` if a task would have more than one wave, or no points."""
        if ways != 1:
            raise InputError(
                f"A task of the data set 'sinusoid' is one wave, not {ways}; take ways=1. Shots are points."
            )
        check_counts(shots=shots, queries=queries)

    def episodes(
        self,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> Episode:
        """Returns the points of one wave per task: support x `[T, shots, 1]` and y `[T, shots]`, the query likewise.

        Raises:
            InputError: as in `check`.
        """
        self.check(ways, shots, queries)
        check_counts(meta_batch=meta_batch)
        generator = generator or fresh_generator()
        amplitude, phase = (torch.rand(meta_batch, 1, generator=generator) for _ in range(2))
        x = 10 * torch.rand(meta_batch, shots + queries, generator=generator) - 5
        frequency = 1.0 + self.spread * (2 * torch.rand(meta_batch, 1, generator=generator) - 1) if self.spread else 1.0
        y = wave(x, 0.1 + 4.9 * amplitude, math.pi * phase, frequency)
        return Episode(x[:, :shots, None], y[:, :shots], x[:, shots:, None], y[:, shots:]).to(device or "cpu")


def wave(x: Tensor, amplitude: Tensor | float, phase: Tensor | float, frequency: Tensor | float = 1.0) -> Tensor:
    """Returns amplitude * sin(frequency * x - phase)."""
    return amplitude * torch.sin(frequency * x - phase)


@register("sinusoid")
def sinusoid(frequency_spread: float = 0.0) -> Data[Sines]:
    """Regression of sine waves: one wave a task, `ways=1`, and shots are points.

    Args:
        frequency_spread: s, for frequencies from 1 - s to 1 + s. Meta-SGD's waves (Li et al., 2017,
            https://arxiv.org/abs/1707.09835, section 4.1) have 0.2, and MAML's have 0.

    Raises:
        InputError: the spread is not a number from 0 to 1.
    """
    if not isinstance(frequency_spread, int | float) or not 0 <= frequency_spread <= 1:
        raise InputError(f"frequency_spread is {frequency_spread!r}; frequencies of 1 - that to 1 + that need 0 to 1.")
    train, validation, test = (Sines(f"the {word} split of sinusoid", frequency_spread) for word in SPLITS)
    return Data("sinusoid", train, validation, test, {"frequency_spread": frequency_spread})
