"""Heads on equal features in equal episodes: accuracy with its interval, and milliseconds an episode."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_kit import adapt, algorithms, compat
from fewshot_kit.adaptation.expectation import expectation
from fewshot_kit.algorithms import Ridge
from fewshot_kit.datasets import Split
from fewshot_kit.evaluation import half_width

from .setting import Setting, Task, accuracy, tasks

Solve = Callable[[Task], Tensor]  # -> scores of the queries [Q, classes]
HEADS = {
    "simple_shot": {},
    "ridge": {},
    "logistic": {},
    "cosine": {},
    "protonet": {"distance": "cosine"},
    "r2d2": {},
    "bd_cspn": {},
    "laplacian_shot": {},
    "alpha_tim": {},
    "alpha_tim (TIM)": {"alpha": 1.0},
    "pt_map": {},
}


def contest(split: Split, setting: Setting, episodes: int) -> list[dict[str, Any]]:
    """A row for each contestant."""
    drawn = tasks(split, setting, episodes)
    rows = []
    for name, whose, transductive, solve in _contestants():
        solve(drawn[0])  # what is done once, such as an import, is nobody's speed
        right, seconds = [], []
        for task in drawn:
            started = time.perf_counter()
            scores = solve(task)
            seconds.append(time.perf_counter() - started)
            right.append(accuracy(scores, task))
        rows.append(
            {
                "name": name,
                "whose": whose,
                "transductive": transductive,
                "accuracy": statistics.fmean(right),
                "interval": half_width(right),
                "milliseconds": 1000 * statistics.median(seconds),
            }
        )
    return rows


def _contestants() -> list[tuple[str, str, bool, Solve]]:
    found: list[tuple[str, str, bool, Solve]] = [("adapt without options", "kit", False, _automatic)]
    for name, options in HEADS.items():
        made = algorithms.create(name.split()[0], model=nn.Identity(), **options)
        found.append((name, "kit", made.transductive, _kit(made)))
    found.append(("LogisticRegression, L2-normalised", "scikit-learn", False, _logistic_regression))
    found.append(("LogisticRegression, as they are", "scikit-learn", False, _raw_logistic_regression))
    return found + _easyfsl()


def _automatic(task: Task) -> Tensor:
    return adapt(nn.Identity(), (task.support_x, task.support_y))(task.query_x)


def _kit(algorithm: Any) -> Solve:
    @torch.no_grad()
    def solve(task: Task) -> Tensor:
        return algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x)

    return solve


def _logistic_regression(task: Task) -> Tensor:
    return _fitted(F.normalize(task.support_x), task.support_y, F.normalize(task.query_x))


def _raw_logistic_regression(task: Task) -> Tensor:
    return _fitted(task.support_x, task.support_y, task.query_x)


def _fitted(x: Tensor, y: Tensor, queries: Tensor) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=1000).fit(x.numpy(), y.numpy())
    return torch.from_numpy(fitted.predict_proba(queries.numpy()))


def _easyfsl() -> list[tuple[str, str, bool, Solve]]:
    """Its methods with their own defaults, on L2-normalised features; SimpleShot normalises by itself."""
    compat.torchvision()  # which it imports
    from easyfsl import methods

    names = ("SimpleShot", "PrototypicalNetworks", "BDCSPN", "LaplacianShot", "TIM", "PTMAP")
    transductive = names[2:]
    found: list[tuple[str, str, bool, Solve]] = []
    for name in names:
        kind = getattr(methods, name)
        normalised = {} if name == "SimpleShot" else {"feature_normalization": 2.0}
        found.append((name, "easyfsl", name in transductive, _peer(kind, normalised)))
    return found


def _peer(kind: Any, options: dict[str, Any]) -> Solve:
    def solve(task: Task) -> Tensor:
        method = kind(nn.Identity(), **options)
        with torch.set_grad_enabled(kind.__name__ == "TIM"):  # it descends
            method.process_support_set(task.support_x, task.support_y)
            return method(task.query_x).detach()

    return solve


def estimates(split: Split, shots: int, episodes: int) -> dict[str, Any]:
    """What ridge regression expects to be right, from support sets alone, beside what is right."""
    head = Ridge(nn.Identity())
    expected, true, covered = [], [], []
    for task in tasks(split, Setting(shots), episodes):
        with torch.no_grad():
            told = expectation(head, task.support_x, task.support_y)
            right = accuracy(head.predict(head.adapt(task.support_x, task.support_y), task.query_x), task)
        true.append(right)
        covered.append(told.low <= right <= told.high)
        if told.accuracy is not None:
            expected.append(told.accuracy)
    return {
        "shots": shots,
        "expected": statistics.fmean(expected) if expected else None,
        "true": statistics.fmean(true),
        "covered": statistics.fmean(covered),
    }
