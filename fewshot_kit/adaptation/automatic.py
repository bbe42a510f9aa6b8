"""`algorithm="auto"`: chooses an algorithm for a task by its support set alone."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import algorithms
from ..algorithms import Algorithm, FeatureHead
from ..algorithms.bases.held_out import choose as least_lost
from ..algorithms.bases.held_out import measurable
from ..algorithms.bases.task_check import check_task
from ..errors import InputError
from ..modules.batch_norm import Statistics, never_trained, usual_policy
from ..modules.heads import linear_head
from ..seeds import default_draws
from .expectation import Expected, of_scores

# Heads on frozen features. If held-out losses are alike, the later one is taken.
HEADS = {
    "simple_shot": "class means of frozen features",
    "logistic": "logistic regression on frozen features",
    "ridge": "ridge regression on frozen features",
}
RATES = (1e-4, 1e-3, 1e-2)
UNTRAINED = 1e-3  # the rate for a network that was never trained
POOR = 0.6  # features are fine-tuned if accuracy is below this share of the way from chance to 1
FLOPS = 5e11  # most that trying to fine-tune may cost: ten seconds of one core


class Choice(NamedTuple):
    """The chosen algorithm, its state for the task, and the reason."""

    algorithm: Algorithm  # in evaluation mode
    state: Any  # the result of its `adapt` on the support set
    why: str
    expected: Expected | None  # None for a regression


def choose(model: nn.Module, x: Tensor, y: Tensor, options: dict[str, Any]) -> Choice:
    """Chooses the algorithm for a support set.

    For class labels it tries ridge regression, logistic regression and class means on the network's frozen features,
    and takes the one with the least loss on held-out folds. If the best of them does poorly, as on a network that was
    never trained, it also tries fine-tuning from ridge regression at a few rates. With one example per class nothing
    can be held out. It then takes ridge regression, or fine-tuning if the network's batch norms show that it was never
    trained. For float targets it takes fine-tuning.

    Args:
        model: any module; it is copied.
        x: support examples `[S, ...]`, as the model takes them.
        y: class indices or float targets `[S]`.
        options: `head`, `batch_norm` and `views`, for every algorithm that has them.

    Raises:
        InputError: features that are not finite, or all zero.
    """
    policy = {"batch_norm": usual_policy(model)} | options
    ways = 0 if y.is_floating_point() else int(y.max()) + 1
    if y.is_floating_point():
        policy.pop("views", None)
        tuned = _make("finetune", model, x, y, ways, **policy)
        return Choice(tuned, tuned.adapt(x, y), "fine-tuning of all parameters, for float targets", None)
    heads = {name: _make(name, model, x, y, ways, **policy) for name in HEADS}
    embedded, statistics = _embedded(heads["ridge"], x)
    features = heads["ridge"].normalised(embedded)
    held = torch.stack([head.held_out_features(features, y) for head in heads.values()])
    found = {name: of_scores(scores, y) for name, scores in zip(HEADS, held, strict=True)}
    best = list(HEADS)[int(least_lost(held, y, len(HEADS) - 1, 1.0).place)]
    head, expected = heads[best], found[best]
    state = {"fitted": head.fit(features, y), "statistics": statistics}
    if expected.accuracy is None:
        untried = "untried: one example a class leaves none to hold out"
        if not never_trained(model) or _cannot_tune(model, x, options):
            return Choice(head, state, f"{HEADS[best]}, {untried}", expected)
        policy.pop("views", None)
        tuned = _make("lp_ft", model, x, y, ways, lr=UNTRAINED, **policy)
        why = f"fine-tuning from a ridge regression, since the network was never trained, {untried}"
        return Choice(tuned, tuned.adapt(x, y), why, expected)
    others = ", ".join(f"{HEADS[name]} {each.accuracy:.0%}" for name, each in found.items() if name != best)
    why = f"{HEADS[best]}: {expected.accuracy:.0%} of {expected.held_out} held-out support examples right ({others})"
    if expected.accuracy >= 1 / ways + POOR * (1 - 1 / ways):
        return Choice(head, state, why, expected)
    refused = _cannot_tune(model, x, options)
    if refused:
        return Choice(head, state, f"{why}; fine-tuning was not tried: {refused}", expected)
    policy.pop("views", None)
    tries = {lr: _make("lp_ft", model, x, y, ways, lr=lr, **policy) for lr in RATES}
    scored = {lr: each.held_out(x, y) for lr, each in tries.items()}
    fits = {lr: of_scores(scores, y) for lr, scores in scored.items()}
    rate = max(fits, key=lambda lr: fits[lr].accuracy or 0.0)
    figures = ", ".join(f"{each.accuracy:.0%} at lr={lr}" for lr, each in fits.items())
    if not _clearly_better(scored[rate], held[list(HEADS).index(best)], y):
        return Choice(head, state, f"{why}; fine-tuning from there: {figures}", expected)
    why = f"fine-tuning from a ridge regression: {figures}, of held-out support examples; {why}"
    return Choice(tries[rate], tries[rate].adapt(x, y), why, fits[rate])


def _make(name: str, model: nn.Module, x: Tensor, y: Tensor, ways: int, **options: Any) -> Any:
    with default_draws(0, "adapt"):  # an algorithm may have modules of its own
        made = algorithms.create(name, model=copy.deepcopy(model), **options).eval()
    check_task(made, x, y, ways)
    return made


def _clearly_better(one: Tensor, other: Tensor, y: Tensor) -> bool:
    """Returns whether held-out scores `[S, classes]` are right more often than others by over one standard error."""
    right = [(scores.argmax(-1) == y)[measurable(y)].double() for scores in (one, other)]
    gain = right[0] - right[1]
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


def _embedded(head: FeatureHead, x: Tensor) -> tuple[Tensor, Statistics]:
    """Returns support embeddings `[S, D]`, and the batch-norm statistics for queries."""
    embedded, statistics = head.embed_support(x)
    if not embedded.isfinite().all():
        raise InputError(
            f"{type(head.model).__name__} gives features that are not finite; check its weights for NaN, or its dtype."
        )
    if not embedded.any():
        raise InputError(
            f"{type(head.model).__name__} has no features: its embedding, of shape {list(embedded.shape[1:])}, is zero "
            "for every example; name its head by head=, or take algorithm='finetune'."
        )
    return embedded, statistics


def _cannot_tune(model: nn.Module, x: Tensor, options: dict[str, Any]) -> str | None:
    from torch.utils.flop_counter import FlopCounterMode

    head = linear_head(model, options.get("head"))
    if head is None:
        return "the model has no linear head"
    if not head.weight.requires_grad:
        return "its head is frozen"
    steps, folds, backward = 50, 5, 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(model).eval()(x[:1])
    needed = counter.get_total_flops() * len(x) * backward * steps * folds * len(RATES)
    if needed > FLOPS:
        return f"it would take {needed / 1e12:.0f} TFLOP; name it, as algorithm='lp_ft', if the time is there"
    return None
