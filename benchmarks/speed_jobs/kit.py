"""The kit on a `Work`, through the one entry that its trainer uses."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from fewshot_kit import algorithms, engines
from fewshot_kit.algorithms import Algorithm, GradientBased

from .peers import slopes
from .work import Make, Prepared, Work


def create(work: Work) -> Algorithm:
    """The kit's algorithm for that work, around a copy of the model."""
    options: dict[str, Any] = dict(work.options)
    maker = algorithms.get(work.algorithm)
    if isinstance(maker, type) and issubclass(maker, GradientBased):
        options |= {"lr": work.lr, "steps": work.steps, "first_order": work.first_order}
    return algorithms.create(work.algorithm, model=copy.deepcopy(work.model), **options)


def kit(engine: str = "auto", compiled: bool = False) -> Make:
    """The kit with an engine by name, or `"auto"`, which measures and chooses while it is prepared."""

    def make(work: Work) -> Prepared:
        algorithm = create(work)
        choice = engines.choose(algorithm, work.episodes, engine=engine, compile=compiled)
        if compiled and not choice.compiled:  # the kit goes on without; here that would be another contestant
            raise RuntimeError(choice.why)

        def call() -> list[Tensor]:
            algorithm.zero_grad()
            engines.meta_backward(algorithm, work.episodes, choice)
            return slopes(algorithm.model)

        return Prepared(call, describe(choice), kit(choice.engine, choice.compiled))

    return make


def describe(choice: engines.Choice) -> str:
    """A choice in a few words."""
    said = [choice.engine]
    if choice.chunk is not None:
        said.append(f"chunks of {choice.chunk}")
    if choice.workers is not None:
        said.append(f"{choice.workers} worker{'s' * (choice.workers != 1)}")
    if choice.compiled:
        said.append("compiled")
    return ", ".join(said)
