"""Zintgraf, Shiarlis, Kurin, Hofmann and Whiteson, "Fast Context Adaptation via Meta-Learning", ICML 2019."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..modules.film import find_modulated, modulated
from ..modules.place import place_of
from ..ranges import check_counts
from ._registry import register
from .bases.gradient_based import GradientBased
from .bases.inner_loop import Tensors, leaf


@register("cavia")
class CAVIA(GradientBased):
    """The inner loop adapts only a few context parameters, which modulate one layer of the network (FiLM).

    The context starts from 0 in every task. A learned linear map turns it into a scale and a shift for each channel.
    `GradientBased` describes the other options.

    Args:
        context: number of context parameters.
        film: name of the layer whose output is modulated; by default the last one with channels before the head.
    """

    fixed = frozenset({"context", "film"})

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1.0,
        first_order: bool = False,
        *,
        steps: int = 2,
        context: int = 100,
        film: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, lr, first_order, steps=steps, **options)
        check_counts(context=context)
        self.film, channels = find_modulated(model, film, self.head)
        self.modulation = nn.Linear(context, 2 * channels, **place_of(model))

    def adapts(self) -> set[str]:
        """Returns the empty set: none of the model's parameters adapts."""
        return set()

    def initial(self) -> Tensors:
        """Returns the context, all 0."""
        weight = self.modulation.weight
        return {"context": leaf(torch.zeros(weight.shape[1], device=weight.device, dtype=weight.dtype))}

    def run(self, parameters: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        with modulated(self.model, self.film, self.modulation(parameters["context"])):
            return super().run({}, buffers, x)
