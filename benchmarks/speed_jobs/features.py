"""The job on features: 1,000 episodes drawn and scored, as one does with a frozen network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from fewshot_kit import algorithms, evaluate
from fewshot_kit.datasets import Split
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.seeds import stream

from .contest import Contest, Contestant
from .settings import Settings
from .work import Prepared

CLASSES, EACH, SIZE = 20, 600, 1280
EPISODES, CHECKED = 1000, 8
WAYS, SHOTS, QUERIES = 5, 5, 15

Right = Callable[[Episode], float]  # share of a task's queries that are told right


def features(settings: Settings) -> Contest:
    """Everybody draws tasks and scores them; before, all score the same few."""
    split = _split()
    tasks = [task for index in range(CHECKED) for task in unstack(_drawn(split, index))]

    def away(right: Right, ready: Callable[[Tensor], Tensor]) -> float:
        return max(abs(right(task) - _by_hand(task, ready)) for task in tasks)

    def easyfsl(name: str, ready: Callable[[Tensor], Tensor], **options: Any) -> Contestant:
        def model() -> Any:
            from easyfsl import methods

            return getattr(methods, name)(nn.Identity(), **options)

        def prepare() -> Prepared:
            from easyfsl.utils import evaluate as theirs

            loader = _loader(split)
            return Prepared(lambda: theirs(model(), loader, device=str(settings.device), use_tqdm=False))

        return Contestant(f"easyfsl, {name}", prepare, lambda _: away(lambda t: _theirs(model(), t), ready), "easyfsl")

    def kit(name: str, ready: Callable[[Tensor], Tensor]) -> Contestant:
        algorithm = algorithms.create(name, model=nn.Identity())

        def run(episodes: int) -> list[float]:
            task: dict[str, Any] = {"ways": WAYS, "shots": SHOTS, "queries": QUERIES, "device": settings.device}
            return evaluate(algorithm, split, episodes=episodes, **task).per_episode

        def deviation(_: Prepared) -> float:
            found = iter(run(CHECKED))
            return away(lambda _: next(found), ready)

        return Contestant(f"kit, {name}", lambda: Prepared(lambda: run(EPISODES)), deviation)

    contestants = [
        easyfsl("PrototypicalNetworks", _as_it_is),
        easyfsl("SimpleShot", F.normalize, feature_normalization=2.0),
        Contestant(
            "scikit-learn, NearestCentroid",
            lambda: Prepared(lambda: _loop(split)),
            lambda _: away(_sklearn, _as_it_is),
            "sklearn",
        ),
        kit("protonet", _as_it_is),
        kit("simple_shot", F.normalize),
    ]
    about = f"{EPISODES:,} episodes of {CLASSES * EACH:,} random features with {SIZE:,} values ({CLASSES} classes), "
    about += f"{WAYS} ways, {SHOTS} shots, {QUERIES} queries a class; everybody draws its own: easyfsl by its "
    about += "TaskSampler, the loop around scikit-learn by NumPy. The accuracies of all are those of float64 on "
    about += f"{CHECKED} tasks of the kit's."
    return Contest(contestants, about, EPISODES)


def _split() -> Split:
    """Clouds around class means in which seven of ten queries are told right."""
    generator, y = torch.Generator().manual_seed(0), torch.arange(CLASSES).repeat_interleave(EACH)
    means = 0.15 * torch.randn(CLASSES, SIZE, generator=generator)
    x = means[y] + torch.randn(len(y), SIZE, generator=generator)
    return Split(x, y, [str(index) for index in range(CLASSES)], "random features")


def _drawn(split: Split, index: int) -> Episode:
    """Episode `index` of the kit's `evaluate`."""
    return split.episodes(WAYS, SHOTS, QUERIES, 1, stream(0, "evaluation", index))


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _by_hand(task: Episode, ready: Callable[[Tensor], Tensor]) -> float:
    """The nearest class mean in float64, of equal lengths if the features are."""
    support, query = (ready(x.double()) for x in (task.support_x, task.query_x))
    means = ready(torch.stack([support[task.support_y == label].mean(0) for label in range(WAYS)]))
    nearest = (query[:, None] - means[None]).square().sum(-1).argmin(1)
    return float((nearest == task.query_y).double().mean())


def _theirs(model: Any, task: Episode) -> float:
    from easyfsl.utils import evaluate_on_one_task

    right, total = evaluate_on_one_task(model, *task)
    return right / total


def _loader(split: Split) -> Any:
    from easyfsl.datasets import FeaturesDataset
    from easyfsl.samplers import TaskSampler

    class Tasks(TaskSampler, _TakesSource):  # type: ignore[misc]
        pass

    source = FeaturesDataset(split.y.tolist(), split.x, split.classes)
    sampler = Tasks(source, WAYS, SHOTS, QUERIES, EPISODES)
    return DataLoader(source, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)


class _TakesSource:
    """What easyfsl hands to torch's `Sampler`, which takes nothing any more."""

    def __init__(self, data_source: Any = None) -> None: ...


def _loop(split: Split) -> list[float]:
    draw, x = np.random.default_rng(0), split.x.numpy()
    found = []
    for _ in range(EPISODES):
        classes = draw.choice(CLASSES, WAYS, replace=False)
        rows = np.stack([label * EACH + draw.choice(EACH, SHOTS + QUERIES, replace=False) for label in classes])
        found.append(_fitted(x[rows[:, :SHOTS].ravel()], x[rows[:, SHOTS:].ravel()]))
    return found


def _sklearn(task: Episode) -> float:
    return _fitted(task.support_x.numpy(), task.query_x.numpy())


def _fitted(support: Any, query: Any) -> float:
    from sklearn.neighbors import NearestCentroid

    fitted = NearestCentroid().fit(support, np.arange(WAYS).repeat(SHOTS))
    return float((fitted.predict(query) == np.arange(WAYS).repeat(QUERIES)).mean())
