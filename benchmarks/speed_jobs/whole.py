"""The jobs beside the meta-gradient: evaluation, the data path, and a training loop from end to end."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_kit import algorithms, compat, engines, evaluate, meta_train
from fewshot_kit.datasets.splits.data import Data
from fewshot_kit.datasets.splits.split import Split
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.evaluation import accuracy
from fewshot_kit.seeds import stream

from . import taskdataset
from .contest import Contest, Contestant
from .gradients import conv4_work
from .kit import describe
from .settings import Settings, omniglot
from .work import Prepared, Work, criterion

EVALUATED = 1000
EXAMPLE_ITERATIONS = 5
META_BATCH = 32


def evaluation(settings: Settings) -> Contest:
    """Adapting to tasks that are only measured: the thousand is dealt out to the rounds."""
    tasks = math.ceil(EVALUATED / settings.rounds)
    work = conv4_work(settings, 1, 15, 1)
    split = omniglot(settings.root).test

    def losses(first_order: bool, dtype: torch.dtype, count: int) -> list[float]:
        drawn = [_evaluation_episode(split, index, dtype, settings.device) for index in range(count)]
        call = _adapt_loop(work, drawn, first_order, dtype)
        return call()

    def peer(first_order: bool) -> Prepared:
        drawn = [_evaluation_episode(split, index, torch.float32, settings.device) for index in range(tasks)]
        return Prepared(_adapt_loop(work, drawn, first_order, torch.float32))

    def kit() -> Prepared:
        algorithm = _maml(work)
        return Prepared(lambda: _evaluate(algorithm, split, tasks))

    def peer_deviation(first_order: bool) -> float:
        expected, found = (statistics.fmean(losses(order, torch.float64, 4)) for order in (False, first_order))
        return abs(found / expected - 1)

    def kit_deviation(_: Prepared) -> float:
        found = _evaluate(_maml(work).double(), split, 4).loss
        return abs(found / statistics.fmean(losses(False, torch.float64, 4)) - 1)

    about = f"conv4 with max-pools, 5 ways, 1 shot, 15 query images a class, 1 step; {tasks} tasks a call, so that "
    about += f"the {settings.rounds} rounds make up {EVALUATED:,}. The peer is handed its tasks ready drawn; the kit "
    about += "draws them. learn2learn's examples evaluate with the second order that they train with; the other way "
    about += "round costs it less and is given too."
    contestants = [
        Contestant("learn2learn", lambda: peer(False), lambda _: peer_deviation(False), "learn2learn"),
        Contestant("learn2learn, first order", lambda: peer(True), lambda _: peer_deviation(True), "learn2learn"),
        Contestant("kit, evaluate", kit, kit_deviation),
    ]
    return Contest(contestants, about, tasks)


def _maml(work: Work) -> algorithms.Algorithm:
    return algorithms.create("maml", model=copy.deepcopy(work.model), lr=work.lr, steps=work.steps)


def _evaluate(algorithm: algorithms.Algorithm, split: Split, tasks: int) -> Any:
    return evaluate(algorithm, split, ways=5, shots=1, queries=15, episodes=tasks, seed=0)


def _evaluation_episode(split: Split, index: int, dtype: torch.dtype, device: torch.device) -> Episode:
    """Episode `index` of the kit's `evaluate`."""
    (episode,) = unstack(split.episodes(5, 1, 15, 1, stream(0, "evaluation", index), device))
    return Episode(*(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in episode))


def _adapt_loop(work: Work, tasks: list[Episode], first_order: bool, dtype: torch.dtype) -> Any:
    model = copy.deepcopy(work.model).to(dtype)
    maml = compat.learn2learn().algorithms.MAML(model, lr=work.lr, first_order=first_order)

    def call() -> list[float]:
        found = []
        for task in tasks:
            learner = maml.clone()
            for _ in range(work.steps):
                learner.adapt(criterion(learner(task.support_x), task.support_y))
            scores = learner(task.query_x)
            found.append(criterion(scores, task.query_y).item())
            float(accuracy(scores, task.query_y, 5))
        return found

    return call


def end_to_end(settings: Settings) -> Contest:
    """Drawing the tasks, the meta-gradient, Adam's step and reading loss and accuracy, on learn2learn's own network."""
    characters = taskdataset.training_characters(settings)

    def network() -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = compat.learn2learn().vision.models.OmniglotFC(28**2, 5)
        return model.to(settings.device)

    def peer() -> Prepared:
        tasks = taskdataset.tasks(characters, 5, 2, rotated=True)
        maml = compat.learn2learn().algorithms.MAML(network(), lr=0.5)
        optimizer = torch.optim.Adam(maml.parameters(), 0.003)
        return Prepared(lambda: [_example_iteration(maml, optimizer, tasks, settings.device) for _ in _iterations()])

    def loop() -> Prepared:
        split = omniglot(settings.root, "per_class").train
        algorithm = algorithms.create("maml", model=network(), lr=0.5)
        optimizer = torch.optim.Adam(algorithm.parameters(), 0.003)
        generator = torch.Generator().manual_seed(0)
        choice = engines.choose(algorithm, split.episodes(5, 1, 1, META_BATCH, generator, settings.device))

        def iteration() -> tuple[float, float]:
            drawn = split.episodes(5, 1, 1, META_BATCH, generator, settings.device)
            optimizer.zero_grad()
            losses, scores = engines.meta_backward(algorithm, drawn, choice)
            optimizer.step()
            return float(losses.mean()), float(accuracy(scores, drawn.query_y, 5).mean())

        return Prepared(lambda: [iteration() for _ in _iterations()], describe(choice))

    def trainer() -> Prepared:
        data: Data[Split] = dataclasses.replace(omniglot(settings.root, "per_class"), validation=None)
        algorithm = algorithms.create("maml", model=network(), lr=0.5)
        first = data.train.episodes(5, 1, 1, META_BATCH, torch.Generator().manual_seed(0), settings.device)
        choice = engines.choose(algorithm, first)
        task = {"ways": 5, "shots": 1, "queries": 1, "meta_batch": META_BATCH, "meta_lr": 0.003, "progress": False}
        more = {"iterations": EXAMPLE_ITERATIONS, "engine": choice.engine}
        return Prepared(lambda: meta_train(algorithm, data, **task, **more), describe(choice))  # type: ignore[arg-type]

    about = f"OmniglotFC of learn2learn, 32 tasks, 5 ways, 1 shot, 1 query image a class, {EXAMPLE_ITERATIONS} "
    about += "iterations a call. The peer is the training half of its example (PNG files, task transforms, rotation, "
    about += "clone and adapt, Adam, loss and accuracy read each task); the example also runs a validation task beside "
    about += "each training task, which is left out here. Both draw at random: that the gradients agree is checked in "
    about += "the job omniglot_fc."
    contestants = [
        Contestant("learn2learn", peer, library="learn2learn"),
        Contestant("kit, meta_train", trainer),
        Contestant("kit, own loop", loop),
    ]
    return Contest(contestants, about, META_BATCH * EXAMPLE_ITERATIONS)


def _iterations() -> range:
    return range(EXAMPLE_ITERATIONS)


def _example_iteration(maml: Any, optimizer: torch.optim.Optimizer, tasks: Any, device: torch.device) -> list[float]:
    optimizer.zero_grad()
    error = right = 0.0
    for _ in range(META_BATCH):
        learner = maml.clone()
        x, y = tasks.sample()
        support_x, support_y, query_x, query_y = taskdataset.halves(x.to(device), y.to(device))
        learner.adapt(criterion(learner(support_x), support_y))
        scores: Tensor = learner(query_x)
        loss = criterion(scores, query_y)
        loss.backward()
        error += loss.item()
        right += (scores.argmax(1) == query_y).float().mean().item()
    for parameter in maml.parameters():
        parameter.grad.mul_(1 / META_BATCH)
    optimizer.step()
    return [error / META_BATCH, right / META_BATCH]


def data_path(settings: Settings) -> Contest:
    """Tasks only, nothing computed with them."""
    files, memory = taskdataset.training_characters(settings), taskdataset.in_memory(settings.root)

    def peer(dataset: Any) -> Prepared:
        tasks = taskdataset.tasks(dataset, 5, 2)
        return Prepared(lambda: [tasks.sample() for _ in range(META_BATCH)])

    def kit() -> Prepared:
        split, generator = omniglot(settings.root).train, torch.Generator().manual_seed(0)
        return Prepared(lambda: split.episodes(5, 1, 1, META_BATCH, generator, settings.device))

    def kit_tasks() -> Prepared:
        tasks = omniglot(settings.root).train.tasks(5, 1, 1, generator=torch.Generator().manual_seed(0))
        return Prepared(lambda: [tasks.sample() for _ in range(META_BATCH)])

    contestants = [
        Contestant("learn2learn, PNG files", lambda: peer(files), library="learn2learn"),
        Contestant("learn2learn, images in memory", lambda: peer(memory), library="learn2learn"),
        Contestant("kit, episodes", kit),
        Contestant("kit, tasks (a TaskDataset)", kit_tasks),
    ]
    about = f"Omniglot's training characters, 5 ways, 1 shot, 1 query image a class; {META_BATCH} tasks a call. "
    about += "FusedNWaysKShots, LoadData, RemapLabels, ConsecutiveLabels; its scan for labels at the start is spared."
    return Contest(contestants, about, META_BATCH)
