"""What a user would write without the kit: learn2learn's loop, and an all-reduce of each parameter's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import distributed as dist
from torch.nn import functional as F

from fewshot_kit import compat, models
from fewshot_kit.engines import Processes
from fewshot_kit.episodes import Episode, unstack


def meta_update(processes: Processes, own: Episode, meta_batch: int) -> Callable[[], Any]:
    """Returns a meta-update of the same network, rates and tasks as the kit's."""
    maml = compat.learn2learn().algorithms.MAML(models.create("conv4", ways=5, seed=0), lr=0.1)
    adam = torch.optim.Adam(maml.parameters(), lr=0.003)
    tasks = unstack(own)

    def update() -> None:
        adam.zero_grad()
        for task in tasks:
            learner = maml.clone()
            learner.adapt(F.cross_entropy(learner(task.support_x), task.support_y))
            F.cross_entropy(learner(task.query_x), task.query_y).backward()
        for parameter in maml.parameters():
            if processes.size > 1:
                dist.all_reduce(parameter.grad)
            parameter.grad /= meta_batch
        adam.step()

    return update
