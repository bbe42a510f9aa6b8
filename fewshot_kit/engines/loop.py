"""`engine="loop"`: one episode at a time, by the algorithm's own functional code, on as many workers as threads."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from ..algorithms import Algorithm
from ..algorithms.modes import twice_differentiable
from ..episodes import Episode
from .results import Result, gradients


def run(algorithm: Algorithm, tasks: list[Episode]) -> list[Result]:
    """Every episode's loss, scores and gradients, in the order of the tasks.

    Convolutional nets on a CPU gain little from several threads inside an operator, and nearly all of it from one
    task on each (one intra-op thread a worker). That is right only where the order of the tasks does not matter:
    if one of them has drawn random numbers or moved a buffer, all are run again one by one.
    """
    count = min(_workers(algorithm), len(tasks))
    if count > 1:
        random = torch.get_rng_state()
        results = _together(algorithm, tasks, count)
        if results is not None and torch.equal(random, torch.get_rng_state()):
            return results
        torch.set_rng_state(random)
    return [_one(algorithm, task) for task in tasks]


def _workers(algorithm: Algorithm) -> int:
    """As many as threads, for a convolutional net on a CPU without dropout, which draws in the order of the tasks."""
    modules = list(algorithm.modules())
    convolutional = any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in modules)
    drawing = any(isinstance(module, _DropoutNd) and module.training and module.p > 0 for module in modules)
    on_cpu = all(parameter.device.type == "cpu" for parameter in algorithm.parameters())
    return torch.get_num_threads() if convolutional and on_cpu and not drawing else 1


def _together(algorithm: Algorithm, tasks: list[Episode], count: int) -> list[Result] | None:
    """The results, or None where a task has moved a buffer."""
    # `functional_call` changes the module while it runs, so every worker needs a copy of its own.
    copies = [copy.deepcopy(algorithm) for _ in range(count)]
    threads = torch.get_num_threads()
    try:
        # The choice of kernels belongs to the process: made here once, what the workers choose again changes nothing.
        with twice_differentiable(algorithm.model), ThreadPoolExecutor(count, "episodes") as pool:
            done = list(pool.map(_several, copies, [tasks[number::count] for number in range(count)]))
    finally:
        torch.set_num_threads(threads)
    buffers = list(algorithm.buffers())
    if not all(all(map(torch.equal, buffers, one.buffers())) for one in copies):
        return None
    return [done[index % count][index // count] for index in range(len(tasks))]


def _several(algorithm: Algorithm, tasks: list[Episode]) -> list[Result]:
    torch.set_num_threads(1)
    return [_one(algorithm, task) for task in tasks]


def _one(algorithm: Algorithm, task: Episode) -> Result:
    loss, scores = algorithm.loss(task)
    return Result(loss.detach(), scores.detach(), gradients(algorithm, loss))
