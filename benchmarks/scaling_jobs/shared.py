"""Meta-updates that 1, 2 or more processes of one thread share, and what their all-reduce takes."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import multiprocessing

from fewshot_kit import algorithms, datasets, models
from fewshot_kit.datasets.splits.part import Part
from fewshot_kit.engines import Processes
from fewshot_kit.engines.results import movable, trainable
from fewshot_kit.training.meta_update import draw_meta_batch, meta_update
from fewshot_kit.training.preparation import prepare
from fewshot_kit.training.settings import TrainingSettings

from . import peer

TASK = {"ways": 5, "shots": 1, "queries": 15}
SIZES = (2**10, 2**14, 2**18, 2**22)  # bytes of the all-reduces from which the link is fitted


def measured(processes: int, threads: int, meta_batch: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Median seconds of a meta-update of conv4 by MAML and of its parts, and of learn2learn's, on this machine."""
    asked = (processes, threads, meta_batch, rounds, str(folder))
    multiprocessing.start_processes(_process, asked, nprocs=processes, start_method="spawn")
    found: dict[str, Any] = torch.load(folder / f"{processes}.pt")
    return found


def _process(rank: int, size: int, threads: int, meta_batch: int, rounds: int, folder: str) -> None:
    torch.set_num_threads(threads)
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group{size}", rank=rank, world_size=size)
    processes = Processes.current()
    found = step(processes, threads, meta_batch, rounds) | {"processes": size, "threads": threads}
    if size > 1:
        found["link"] = [[bytes_, all_reduce(bytes_, rounds)] for bytes_ in SIZES]
        dist.destroy_process_group()
    if processes.leads:
        torch.save(found, Path(folder) / f"{size}.pt")


def step(processes: Processes, threads: int, meta_batch: int, rounds: int) -> dict[str, Any]:
    """Medians of a meta-update, of learn2learn's, of its drawing, of its gradients alone, and the bytes it sends."""
    data = datasets.create("glyphs", classes=400, drawings=20)
    algorithm = algorithms.create("maml", model=models.create("conv4", ways=5, seed=0), lr=0.1)
    settings = TrainingSettings(
        **TASK, iterations=10**6, meta_batch=meta_batch, engine="loop", workers=threads, validate_every=10**6
    )
    training, _ = prepare(algorithm, data, settings, None, False, None)
    part = processes.part(meta_batch)
    own = draw_meta_batch(algorithm, data.train, settings, 1, part)
    floats = sum(tensor.numel() for tensor in [*trainable(algorithm), *movable(algorithm).values()])
    nothing = Part(data.train, meta_batch, slice(0, 0))

    def draw(tasks: int) -> Callable[[], Any]:
        generator = torch.Generator().manual_seed(0)
        return lambda: nothing.episodes(**TASK, meta_batch=tasks, generator=generator)

    return {
        "meta_batch": meta_batch,
        "step": median(lambda: meta_update(training, own), rounds, processes),
        "learn2learn": median(peer.meta_update(processes, own, meta_batch), rounds, processes),
        "gradients": median(lambda: training.choice.run(algorithm, own), rounds, processes),
        "gather": median(lambda: draw_meta_batch(algorithm, data.train, settings, 1, part), rounds, processes),
        "draws_of_1024": median(draw(1024), rounds, processes),  # which every process draws of all tasks
        "bytes": 4 * (floats + len(trainable(algorithm))),
    }


def all_reduce(size: int, rounds: int) -> float:
    """Median seconds of an all-reduce of so many bytes."""
    tensor = torch.zeros(size // 4)
    return median(lambda: dist.all_reduce(tensor), 5 * rounds, Processes.current())


def median(call: Callable[[], Any], rounds: int, processes: Processes) -> float:
    """Median seconds of a call, which all processes begin together, after one that is not timed."""
    seconds = []
    for _ in range(rounds + 1):
        if processes.size > 1:
            dist.barrier()
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


@dataclasses.dataclass(frozen=True)
class Link:
    """What an all-reduce takes between two processes: seconds a message, and seconds a byte."""

    latency: float
    per_byte: float

    @classmethod
    def fitted(cls, points: list[list[float]]) -> Link:
        """The line through the median times of small and large all-reduces, which weighs relative errors."""
        x = torch.tensor([[1.0, size] for size, _ in points], dtype=torch.float64)
        y = torch.tensor([seconds for _, seconds in points], dtype=torch.float64)
        weight = 1 / y[:, None]
        latency, per_byte = torch.linalg.lstsq(x * weight, torch.ones_like(weight)).solution.flatten().tolist()
        return cls(max(latency, 0.0), max(per_byte, 0.0))

    def all_reduce(self, size: float, processes: int) -> float:
        """Seconds of a ring's all-reduce: 2 (N - 1) messages of a N-th of the bytes each.

        Between two processes these are two messages of half of the bytes, which is what was fitted.
        """
        messages = 2 * (processes - 1)
        return messages * (self.latency / 2 + self.per_byte * size / processes)


def projected(
    one: dict[str, Any], link: Link, processes: int, tasks_each: int, task_seconds: float
) -> dict[str, float]:
    """Seconds of a meta-update of `tasks_each` tasks on each process, and how much of it one process alone takes."""
    gradients = task_seconds * tasks_each
    rest = max(0.0, one["step"] - one["gradients"])  # optimiser, figures and Python, as measured
    sent = link.all_reduce(one["bytes"], processes) + link.all_reduce(24 * tasks_each * processes, processes)
    draws = one["draws_of_1024"] / 1024 * tasks_each * processes  # beside the gradients, on another thread
    step = max(gradients + rest + sent, draws)
    return {"step": step, "efficiency": (gradients + rest) / step, "sent": sent, "draws": draws}
