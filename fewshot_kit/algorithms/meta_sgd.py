"""Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .. import compat
from ._registry import register
from .bases.head_rate import HeadRate
from .bases.inner_loop import Rule, sgd
from .bases.learned_rate import LearnedRate


@register("meta_sgd")
class MetaSGD(LearnedRate, HeadRate):
    """MAML with a learned rate for every element of every parameter (equation 2): direction and size of the step.

    Takes learn2learn's arguments, `MetaSGD(model, lr, first_order=False)`, and gives its learner.
    `HeadRate` and `GradientBased` describe the other options.

    Args:
        lr: where every rate starts, but for those of the head where there is a `head_lr`.
    """

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)
        self.rates = nn.ParameterList(
            nn.Parameter(torch.full_like(parameter, rate), requires_grad=parameter.requires_grad)
            for parameter, rate in zip(model.parameters(), self.inner_rates().values(), strict=True)
        )

    def rule(self) -> Rule:
        """Gradient descent at the learned rates."""
        names = [name for name, _ in self.model.named_parameters()]
        return sgd(dict(zip(names, self.rates, strict=True)))

    def figures(self) -> dict[str, float]:
        """Mean and standard deviation of the rates, over all elements."""
        rates = torch.cat([rate.detach().flatten() for rate in self.rates])
        return {"rate": float(rates.mean()), "rate_deviation": float(rates.std())}

    def clone(self) -> Any:
        """learn2learn's own `MetaSGD` clone on this model and these rates: `adapt(loss)` and `forward`."""
        learner = compat.learn2learn().algorithms.MetaSGD
        return learner(self.model, first_order=self.first_order, lrs=list(self.rates)).clone()
