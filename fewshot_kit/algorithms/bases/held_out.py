"""Cross-validation on a support set: how well a classifier does on examples that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...episodes import presentations

MOST = 5  # folds
TEMPERATURES = tuple(2.0**power for power in range(-2, 9))


def fold_weights(y: Tensor, classes: int) -> Tensor:
    """Class indices `[S]` -> weights of the support examples for each fold `[folds, S]`: 0 if held out, and 1 if not.

    A fold holds out one or a few examples of every class. Holding out a single example would weaken its class against
    the others, and the accuracy would come out too low (5-way 2-shot on real features: 61 % instead of 89 %). The only
    example of a class is never held out. The number of folds depends on the shape alone, so nothing waits for a GPU.
    """
    folds = min(MOST, max(2, -(-len(y) // classes)))
    fold = (presentations(y) - 1) % folds
    held = (fold == torch.arange(folds, device=y.device)[:, None]) & measurable(y)
    return (~held).to(torch.get_default_dtype())


def measurable(y: Tensor) -> Tensor:
    """Class indices `[S]` -> bool `[S]`: whether an example can be held out, since its class has another one."""
    return (y[:, None] == y[None, :]).sum(-1) > 1


def class_balance(y: Tensor, weights: Tensor) -> Tensor:
    """Returns the example weights `[..., S]`, changed so that all classes have the same total; their mean stays."""
    same = (y[:, None] == y[None, :]).to(weights.dtype)
    balanced = weights / (weights @ same).clamp(min=1)
    return balanced * weights.sum(-1, keepdim=True) / balanced.sum(-1, keepdim=True)


def by_folds(fit_and_score: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Returns each example's scores by a fit without its fold, `[S, classes]`; 0 if it cannot be held out.

    Args:
        fit_and_score: `(x [s, ...], y [s], held-out x [h, ...]) -> scores [h, classes or more]`.
        x, y: the support set `[S, ...]`, class indices `[S]`.
    """
    classes = int(y.max()) + 1
    found: Tensor | None = None
    for kept in fold_weights(y, classes) > 0:
        if kept.all():
            continue
        scores = fit_and_score(x[kept], y[kept], x[~kept])[:, :classes]
        found = scores.new_zeros(len(y), classes) if found is None else found
        found[~kept] = scores
    return x.new_zeros(len(y), classes) if found is None else found


class Chosen(NamedTuple):
    """The way to fit that did best on held-out examples."""

    place: Tensor  # index of the way, a scalar
    temperature: Tensor  # factor that turns its scores into logits, a scalar


def choose(scores: Tensor, y: Tensor, usual: int, temperature: float) -> Chosen:
    """Returns the most regularised way to fit whose held-out loss is within one standard error of the least.

    This is the rule of Breiman et al. (1984).

    Args:
        scores: held-out scores `[ways to fit, S, classes]`, from the least regularised way to the most.
        y: class indices `[S]`.
        usual, temperature: the choice if no example can be held out.
    """
    factors = torch.tensor(TEMPERATURES, dtype=scores.dtype, device=scores.device)
    lost = _losses(scores, y, factors)  # [ways to fit, temperatures, S]
    counted = measurable(y).to(lost.dtype)
    number = counted.sum()
    mean = (lost * counted).sum(-1) / number.clamp(min=1)
    least, warmth = mean.min(-1)  # over temperatures
    best = least.argmin()
    at_best = lost.flatten(0, 1).index_select(0, (best * len(factors) + warmth.gather(0, best[None]))).squeeze(0)
    variance = (counted * (at_best - (at_best * counted).sum() / number.clamp(min=1)).square()).sum()
    error = (variance / (number - 1).clamp(min=1) / number.clamp(min=1)).sqrt()
    within = least <= least.min() + error
    index = (within * torch.arange(1, len(least) + 1, device=y.device)).argmax()
    told = number > 0
    index = torch.where(told, index, torch.full_like(index, usual))
    found = factors.gather(0, warmth.gather(0, index[None])).squeeze(0)
    return Chosen(index, torch.where(told, found, torch.full_like(found, temperature)))


def _losses(scores: Tensor, y: Tensor, factors: Tensor) -> Tensor:
    """Returns cross-entropies `[ways to fit, temperatures, S]`, with a penalty on too much certainty.

    A few right answers in a row do not prove certainty. The mean over all classes therefore counts as one example in
    S + 1, as if one more example had been seen whose class is unknown.
    """
    logs = (scores[:, None] * factors[:, None, None]).log_softmax(-1)  # [ways to fit, temperatures, S, classes]
    right = logs.gather(-1, y[None, None, :, None].expand(*logs.shape[:-1], 1)).squeeze(-1)
    return -(len(y) * right + logs.mean(-1)) / (len(y) + 1)
