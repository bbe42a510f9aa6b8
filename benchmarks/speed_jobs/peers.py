"""learn2learn, higher and TorchOpt on a `Work`, each in the way its own examples go about it."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_kit import compat
from fewshot_kit.episodes import Episode

from .work import Prepared, Work, criterion


def slopes(model: nn.Module) -> list[Tensor]:
    """The meta-gradient that has arrived, in the parameters' order."""
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def learn2learn(work: Work) -> Prepared:
    """`MAML(model).clone()`, and `adapt` once a step."""
    model = copy.deepcopy(work.model)
    maml = compat.learn2learn().algorithms.MAML(model, lr=work.lr, first_order=work.first_order)
    tasks = work.tasks

    def call() -> list[Tensor]:
        model.zero_grad()
        for task in tasks:
            learner = maml.clone()
            for _ in range(work.steps):
                learner.adapt(criterion(learner(task.support_x), task.support_y))
            (criterion(learner(task.query_x), task.query_y) / len(tasks)).backward()
        return slopes(model)

    return Prepared(call)


def higher(work: Work) -> Prepared:
    """`innerloop_ctx` with SGD over what adapts; a callback drops the second order where it is not wanted."""
    library = compat.higher()
    model = copy.deepcopy(work.model)
    adapting = list(model.parameters())
    optimizer = torch.optim.SGD(adapting, lr=work.lr)
    tasks = work.tasks

    def first_order(gradients: Iterable[Tensor]) -> list[Tensor]:
        return [gradient.detach() for gradient in gradients]

    options = {"grad_callback": first_order} if work.first_order else {}

    def call() -> list[Tensor]:
        model.zero_grad()
        for task in tasks:
            with library.innerloop_ctx(model, optimizer, copy_initial_weights=False) as (net, inner):
                for _ in range(work.steps):
                    inner.step(criterion(net(task.support_x), task.support_y), **options)
                (criterion(net(task.query_x), task.query_y) / len(tasks)).backward()
        return slopes(model)

    return Prepared(call)


def torchopt(work: Work) -> Prepared:
    """`MetaSGD` steps the module itself; its state is taken before a task and put back after it."""
    library: Any = importlib.import_module("torchopt")
    model = copy.deepcopy(work.model)
    meta = list(model.parameters())  # recovered by reference, so that the slopes arrive here
    inner = library.MetaSGD(model, lr=work.lr)
    network = library.extract_state_dict(model, by="reference", detach_buffers=True)
    optimizer = library.extract_state_dict(inner, by="reference")
    tasks = work.tasks

    def call() -> list[Tensor]:
        for parameter in meta:
            parameter.grad = None
        for task in tasks:
            for _ in range(work.steps):
                inner.step(criterion(model(task.support_x), task.support_y))
            (criterion(model(task.query_x), task.query_y) / len(tasks)).backward()
            library.recover_state_dict(model, network)
            library.recover_state_dict(inner, optimizer)
        return slopes(model)

    return Prepared(call)


def parts(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The body and the head of the kit's `conv4`; they share their parameters with it."""
    body = nn.Sequential(*(module for name, module in model.named_children() if name != "head"), nn.Flatten())
    return body, model.head  # type: ignore[return-value]


def anil_features_once(work: Work) -> Prepared:
    """As in learn2learn's ANIL example: features first, then a clone of the wrapped head takes the steps.

    The example runs support and query through the body together. Here they go one after the other, so that batch
    norm sees the same batches as everybody else's.
    """
    model = copy.deepcopy(work.model)
    body, head = parts(model)
    maml = compat.learn2learn().algorithms.MAML(head, lr=work.lr, first_order=work.first_order)
    tasks = work.tasks

    def call() -> list[Tensor]:
        model.zero_grad()
        for task in tasks:
            support, query = body(task.support_x), body(task.query_x)
            learner = maml.clone()
            for _ in range(work.steps):
                learner.adapt(criterion(learner(support), task.support_y))
            (criterion(learner(query), task.query_y) / len(tasks)).backward()
        return slopes(model)

    return Prepared(call)


def one_part_adapts(work: Work) -> Prepared:
    """learn2learn's `MAML` around the part that adapts (ANIL: the head; BOIL: the body), the whole model each step."""
    model = copy.deepcopy(work.model)
    body, head = parts(model)
    library = compat.learn2learn().algorithms
    maml = library.MAML(head if work.algorithm == "anil" else body, lr=work.lr, first_order=work.first_order)
    tasks = work.tasks

    def run(learner: Any, x: Tensor) -> Tensor:
        return learner(body(x)) if work.algorithm == "anil" else head(learner(x))

    def call() -> list[Tensor]:
        model.zero_grad()
        for task in tasks:
            learner = maml.clone()
            for _ in range(work.steps):
                learner.adapt(criterion(run(learner, task.support_x), task.support_y))
            (criterion(run(learner, task.query_x), task.query_y) / len(tasks)).backward()
        return slopes(model)

    return Prepared(call)


def prototypes_loop(work: Work) -> Prepared:
    """As in learn2learn's prototypical example, one task after another: mean embeddings, squared distances."""
    model = copy.deepcopy(work.model)
    body, _ = parts(model)
    tasks = work.tasks

    def loss(task: Episode) -> Tensor:
        support, query = body(task.support_x), body(task.query_x)
        ways = int(task.support_y.max()) + 1
        means = support.view(ways, -1, support.shape[-1]).mean(1)  # episodes are in class-major order
        logits = -((query[:, None] - means[None]) ** 2).sum(2)
        return criterion(logits, task.query_y)

    def call() -> list[Tensor]:
        model.zero_grad()
        for task in tasks:
            (loss(task) / len(tasks)).backward()
        return slopes(body)  # the head takes no part

    return Prepared(call)
