"""Li, Zhou, Chen and Li, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from .. import compat
from ..errors import InputError
from ._registry import register
from .bases.gradient_based import GradientBased
from .bases.head_rate import HeadRate
from .bases.inner_loop import Rule, sgd
from .bases.learned_rate import LearnedRate


@register("meta_sgd")
class MetaSGD(LearnedRate, HeadRate):
    """MAML with a learned rate for every element of every parameter, for the direction and size of steps (equation 2).

    It takes learn2learn's arguments, `MetaSGD(model, lr, first_order=False, lrs=None)`, and `clone()` returns
    learn2learn's learner. `HeadRate` and `GradientBased` describe the other options.

    Args:
        lr: initial value of every rate; `head_lr`, if given, is that of the head's rates. learn2learn's default is 1.
        lrs: the rates themselves, which are then shared with the caller: one `nn.Parameter` for each parameter of the
            model, of its shape and in the model's order. `lr` and `head_lr` are then not used.

    Raises:
        InputError: as `HeadRate`; `lrs` have other shapes than the model's parameters.
    """

    not_options = frozenset({"lrs"})

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.5,
        first_order: bool = False,
        lrs: Iterable[nn.Parameter] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, lr, first_order, **options)
        if lrs is None:
            lrs = [
                nn.Parameter(torch.full_like(parameter, rate), requires_grad=parameter.requires_grad)
                for parameter, rate in zip(model.parameters(), self.inner_rates().values(), strict=True)
            ]
        self.rates = nn.ParameterList(lrs)
        have, need = ([list(one.shape) for one in those] for those in (self.rates, model.parameters()))
        if have != need:
            raise InputError(f"lrs have the shapes {have}; give one for each of the model's parameters: {need}.")

    @property
    def lrs(self) -> nn.ParameterList:
        """The rates, under learn2learn's name for them."""
        return self.rates

    def rule(self) -> Rule:
        """Returns gradient descent at the learned rates."""
        names = [name for name, _ in self.model.named_parameters()]
        return sgd(dict(zip(names, self.rates, strict=True)))

    def figures(self) -> dict[str, float]:
        """Returns the mean and standard deviation of the rates, over all elements."""
        rates = torch.cat([rate.detach().flatten() for rate in self.rates])
        return {"rate": float(rates.mean()), "rate_deviation": float(rates.std())}

    def clone(self) -> Any:
        """Returns learn2learn's own `MetaSGD` clone on this model and these rates, with `adapt(loss)` and `forward`."""
        GradientBased.check_clonable(self)  # not HeadRate's: the rates include the head's
        learner = compat.learn2learn().algorithms.MetaSGD
        return learner(self.model, first_order=self.first_order, lrs=list(self.rates)).clone()
