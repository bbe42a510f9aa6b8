"""`engine="loop"`: one episode at a time, by the algorithm's own functional code, on as many workers as threads."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..algorithms.modes import twice_differentiable
from ..episodes import Episode
from .results import Result, gradients


def run(algorithm: Algorithm, tasks: list[Episode]) -> list[Result]:
    """Every episode's loss, scores and gradients, in the order of the tasks.

    Convolutional nets on a CPU gain nothing from several threads inside an operator, and nearly all of it from one
    task on each (one intra-op thread a worker). The order must not matter for that: where the first task has drawn
    random numbers or moved a buffer, the others follow it one by one.
    """
    before = _traces(algorithm)
    results = [_one(algorithm, tasks[0])]
    rest = tasks[1:]
    count = min(_workers(algorithm), len(rest))
    if count < 2 or not all(map(torch.equal, before, _traces(algorithm))):
        return results + [_one(algorithm, task) for task in rest]
    # `functional_call` changes the module while it runs, so every worker needs a copy of its own.
    copies = [copy.deepcopy(algorithm) for _ in range(count)]
    parts = [(one, rest[number::count]) for number, one in enumerate(copies)]
    threads = torch.get_num_threads()
    try:
        # The choice of kernels belongs to the process: made here once, what the workers choose again changes nothing.
        with twice_differentiable(algorithm.model), ThreadPoolExecutor(count, "episodes") as pool:
            done = list(pool.map(_several, parts))
    finally:
        torch.set_num_threads(threads)
    return results + [done[index % count][index // count] for index in range(len(rest))]


def _workers(algorithm: Algorithm) -> int:
    convolutional = any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in algorithm.modules())
    on_cpu = all(parameter.device.type == "cpu" for parameter in algorithm.parameters())
    return torch.get_num_threads() if convolutional and on_cpu else 1


def _traces(algorithm: Algorithm) -> list[Tensor]:
    """What a task can leave behind: the state of the default generator, and the buffers."""
    return [torch.get_rng_state(), *(buffer.clone() for buffer in algorithm.buffers())]


def _several(part: tuple[Algorithm, list[Episode]]) -> list[Result]:
    torch.set_num_threads(1)
    algorithm, tasks = part
    return [_one(algorithm, task) for task in tasks]


def _one(algorithm: Algorithm, task: Episode) -> Result:
    loss, scores = algorithm.loss(task)
    return Result(loss.detach(), scores.detach(), gradients(algorithm, loss))
