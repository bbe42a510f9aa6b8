"""Runs in a process group, for `test_processes.py`: `python shared_runs.py FOLDER RANK SIZE`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from small_runs import centroids, train
from torch import distributed as dist
from torch import nn
from toy import Centroids, Odd, noisy_net, world

from fewshot_kit.algorithms import MAML
from fewshot_kit.engines import Processes
from fewshot_kit.errors import InputError
from fewshot_kit.evaluation import evaluate


class Counting(nn.Module):
    """A linear network whose buffers every task moves: one by its points, one by 1 a call."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.linear = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += x.detach().mean()
            self.calls += 1
        return self.linear(x)


def plain(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def counting() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counting()


# A run by name: its algorithm, for the process of this rank, and its settings.
SCENARIOS: dict[str, Any] = {
    "vmap": (lambda rank: MAML(plain().double(), lr=0.1), {"engine": "vmap", "meta_batch": 8}),
    "loop": (lambda rank: MAML(plain().double(), lr=0.1), {"meta_batch": 8}),
    "chunks": (lambda rank: MAML(plain().double(), lr=0.1), {"engine": "vmap", "chunk": 3, "meta_batch": 8}),
    "uneven": (lambda rank: MAML(plain().double(), lr=0.1), {"meta_batch": 5}),
    "fewer tasks than processes": (lambda rank: MAML(plain().double(), lr=0.1), {"meta_batch": 3}),
    "running statistics": (lambda rank: centroids().double(), {"meta_batch": 5, "exact": True}),
    "skipped updates": (lambda rank: Odd(counting().double()), {"meta_batch": 5, "on_nan": "skip"}),
    "moved buffers": (lambda rank: Centroids(counting().double()), {"meta_batch": 5}),
    "other weights on every process": (lambda rank: MAML(plain(seed=rank).double(), lr=0.1), {"meta_batch": 4}),
    "exact": (lambda rank: MAML(plain(), lr=0.1), {"meta_batch": 5, "exact": True}),
    "exact with dropout": (lambda rank: MAML(noisy_net(), lr=0.1), {"meta_batch": 5, "exact": True}),
}


def outcome(name: str, processes: Processes) -> dict[str, Any]:
    """All that a run of six iterations gives, and a test after it."""
    make, settings = SCENARIOS[name]
    algorithm = make(processes.rank)
    result = train(algorithm, iterations=6, validate_every=3, validation_episodes=40, **settings)
    test = evaluate(algorithm, world().test, ways=3, queries=4, episodes=37, processes=processes)
    return {
        "history": result.history,
        "best": result.best,
        "skipped": result.skipped,
        "state": algorithm.state_dict(),
        "tested": [test.per_episode, test.loss, test.interval],
    }


def started(folder: Path) -> dict[str, Any]:
    """A run that starts from the folder of one that has just ended."""
    train(MAML(plain().double(), lr=0.1), iterations=2, validate_every=1, run=folder)
    algorithm = MAML(plain(seed=1).double(), lr=0.1)
    result = train(algorithm, iterations=2, init=folder)
    return {"history": result.history, "state": algorithm.state_dict()}


def refused(processes: Processes) -> str:
    """What every process is told of a mistake that the first one alone can see."""

    def fail() -> None:
        raise InputError("The first process found a mistake.")

    try:
        processes.agreed(fail)
    except InputError as error:
        return str(error)
    return ""


def main(folder: str, rank: int, size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group{size}", rank=rank, world_size=size)
    processes = Processes.current()
    found: dict[str, Any] = {name: outcome(name, processes) for name in SCENARIOS}
    found["refused"] = refused(processes)
    found["started"] = started(Path(folder) / f"run{size}")
    torch.save(found, Path(folder) / f"{size}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
