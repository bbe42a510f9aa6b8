"""The whole network on photos, and 1,000 episodes of prototypes on features."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_kit import adapt, algorithms, compat, evaluate
from fewshot_kit.datasets import Split
from fewshot_kit.modules.heads import without_head

from .contest import _fitted
from .setting import QUERIES, WAYS, Setting, accuracy, tasks

EPISODES = 1000
NAMED = ("anil", "lp_ft", "finetune", "maml", "boil")  # on one task: minutes of one core
ROUNDS = 3


def whole_network(net: nn.Module, split: Split, shots: int, number: int) -> dict[str, Any]:
    """`adapt` on photos without options and by name, beside logistic regression on the features by hand."""
    rows: list[dict[str, Any]] = []
    drawn = tasks(split, Setting(shots), number)
    runs = {"adapt without options": _without_options, "LogisticRegression on its features": _by_hand}
    for name, run in runs.items():
        right, seconds, why = [], [], ""
        for task in drawn:
            started = time.perf_counter()
            scores, why = run(net, task)
            seconds.append(time.perf_counter() - started)
            right.append(accuracy(scores, task))
        rows.append(_row(name, right, seconds, why))
    for name in NAMED if shots > 1 else ():
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            learner = adapt(net, (drawn[0].support_x, drawn[0].support_y), algorithm=name)
        scores = learner(drawn[0].query_x)
        why = " ".join([learner.why, *(str(one.message) for one in said)])
        rows.append(
            _row(f"adapt, algorithm='{name}'", [accuracy(scores, drawn[0])], [time.perf_counter() - started], why)
        )
    return {"shots": shots, "rows": rows}


def _row(name: str, right: list[float], seconds: list[float], why: str) -> dict[str, Any]:
    spent = statistics.median(seconds)
    return {"name": name, "tasks": len(right), "accuracy": statistics.fmean(right), "seconds": spent, "said": why}


def _without_options(net: nn.Module, task: Any) -> tuple[Tensor, str]:
    learner = adapt(net, (task.support_x, task.support_y))
    return learner(task.query_x), learner.why


def _by_hand(net: nn.Module, task: Any) -> tuple[Tensor, str]:
    with torch.no_grad():
        support, queries = (F.normalize(without_head(net)(x)) for x in (task.support_x, task.query_x))
    return _fitted(support, task.support_y, queries), ""


def prototypes(split: Split, shots: int) -> dict[str, Any]:
    """Seconds of 1,000 episodes of prototypes, drawing included, by turns with easyfsl's own loop."""
    compat.torchvision()  # which easyfsl imports
    from easyfsl.methods import SimpleShot
    from easyfsl.utils import evaluate as theirs
    from torch.utils.data import DataLoader

    head, source = algorithms.create("simple_shot", model=nn.Identity()), _Features(split)
    seconds: dict[str, list[float]] = {"kit": [], "easyfsl": []}
    for _ in range(ROUNDS):
        started = time.perf_counter()
        evaluate(head, split, ways=WAYS, shots=shots, queries=QUERIES, episodes=EPISODES)
        seconds["kit"].append(time.perf_counter() - started)
        sampler = _sampler(source, shots)
        started = time.perf_counter()
        loader = DataLoader(source, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
        theirs(SimpleShot(nn.Identity()), loader, device="cpu", use_tqdm=False)
        seconds["easyfsl"].append(time.perf_counter() - started)
    return {"shots": shots, "episodes": EPISODES} | {who: statistics.median(each) for who, each in seconds.items()}


class _Features(torch.utils.data.Dataset[Any]):
    """A split as easyfsl's sampler wants it."""

    def __init__(self, split: Split) -> None:
        self.x, self.labels = split.x, split.y.tolist()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.x[index], self.labels[index]

    def get_labels(self) -> list[int]:
        return self.labels


def _sampler(source: _Features, shots: int) -> Any:
    """easyfsl's own; its constructor hands torch's `Sampler` an argument that newer ones refuse."""
    from easyfsl.samplers import TaskSampler

    made = TaskSampler.__new__(TaskSampler)
    made.n_way, made.n_shot, made.n_query, made.n_tasks = WAYS, shots, QUERIES, EPISODES
    made.items_per_label = {}
    for item, label in enumerate(source.labels):
        made.items_per_label.setdefault(label, []).append(item)
    return made
