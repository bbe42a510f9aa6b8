"""Sine waves: the regression of Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning", ICML 2017, section 5.1."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

from ..episodes import Episode
from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .data import Data
from .sampler import fresh_generator

SPLITS = ("training", "validation", "test")


class Sines:
    """Draws tasks y = a sin(x - p): amplitude a from 0.1 to 5, phase p from 0 to pi, x from -5 to 5, all uniform.

    There is no end of tasks, so that the three splits are told apart by their generators alone.
    """

    classes = ("sine",)
    example_shape = torch.Size([1])
    transform = channels = image_size = None

    def __init__(self, name: str) -> None:
        self.name = name

    def check(self, ways: int, shots: int, queries: int) -> None:
        """Raise `InputError` for more than one wave in a task, or no points."""
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
        """Points of one wave each: x `[T, shots, 1]`, y `[T, shots]`, the query likewise.

        Raises:
            InputError: as `check` does.
        """
        self.check(ways, shots, queries)
        generator = generator or fresh_generator()
        amplitude, phase = (torch.rand(meta_batch, 1, generator=generator) for _ in range(2))
        x = 10 * torch.rand(meta_batch, shots + queries, generator=generator) - 5
        y = wave(x, 0.1 + 4.9 * amplitude, math.pi * phase)
        return Episode(x[:, :shots, None], y[:, :shots], x[:, shots:, None], y[:, shots:]).to(device or "cpu")


def wave(x: Tensor, amplitude: Tensor | float, phase: Tensor | float) -> Tensor:
    """amplitude * sin(x - phase)."""
    return amplitude * torch.sin(x - phase)


@register("sinusoid")
def sinusoid() -> Data:
    """Regression of sine waves: one wave a task, `ways=1`, and shots are points."""
    train, validation, test = (cast(Any, Sines(f"the {word} split of sinusoid")) for word in SPLITS)
    return Data("sinusoid", train, validation, test, {})
