"""`--compile`: `torch.compile` turns the meta-gradient of a meta-batch into one program.

`make_fx` first records the tensor operators that the engine runs. The compiler then sees a plain list of operators,
whatever the model or the algorithm does in Python. PyTorch keeps compiled programs on disk, so the second start with
the same shapes takes seconds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map_only

from ..algorithms import Algorithm
from ..episodes import Episode
from . import factored, vmap
from .results import Result, combined, differentiated, movable

Tensors = list[Tensor]
Step = Callable[[Tensors, Tensors], Result]  # takes the algorithm's tensors and the episodes' tensors


class Program:
    """Compiled meta-gradients of one algorithm: one program for each shape of meta-batch and each mode.

    Args:
        engine: `"factored"` or `"vmap"`.
        unfold: as in `vmap.run`.

    Attributes:
        seconds: time that recording and compiling took so far.
    """

    def __init__(self, engine: str, unfold: bool = False) -> None:
        self.engine, self.unfold = engine, unfold
        self.steps: dict[Any, Step] = {}
        self.seconds = 0.0

    def __call__(self, algorithm: Algorithm, episodes: Episode, chunk: int | None = None) -> Result:
        """Returns losses, scores and summed gradients, as `vmap.run` does."""
        return combined([self._part(algorithm, part) for part in vmap.chunks(episodes, chunk)])

    def _part(self, algorithm: Algorithm, episodes: Episode) -> Result:
        own = [*algorithm.parameters(), *algorithm.buffers()]
        kinds = ((tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad) for tensor in (*own, *episodes))
        key = (*kinds, *(module.training for module in algorithm.modules()))
        tensors = [tensor.detach() for tensor in own]
        if key not in self.steps:
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler warns about itself; users cannot mend that
                self.steps[key] = _compiled(algorithm, tensors, episodes, self.engine, self.unfold)
                self.steps[key](tensors, list(episodes))
            self.seconds += time.perf_counter() - started
        return self.steps[key](tensors, list(episodes))


def _compiled(algorithm: Algorithm, tensors: Tensors, episodes: Episode, engine: str, unfold: bool) -> Step:
    module = vmap.Losses(algorithm) if engine == "vmap" else factored.Losses(algorithm)
    named = dict(module.named_parameters())
    moving = [name for name, parameter in named.items() if parameter.requires_grad]
    names = [*named, *(name for name, _ in module.named_buffers())]
    moves = list(movable(algorithm)) if engine == "vmap" else []

    def run_with(episodes: Episode, given: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        if isinstance(module, vmap.Losses):
            return vmap.vectorised(module, episodes, given, unfold)
        return functional_call(module, given, (episodes,)), {}

    # The step takes and gives plain lists: unpacking dictionaries would slow down a program this short.
    def step(tensors: Tensors, episodes: Tensors) -> tuple[Tensor, Tensor, list[Tensor | None], Tensors]:
        given = dict(zip(names, tensors, strict=True))
        leaves = {name: given[name].detach().requires_grad_() for name in moving}
        (losses, scores), moved = run_with(Episode(*episodes), {**given, **leaves})
        found = differentiated(losses, scores, list(leaves.values()))
        return found.losses, found.scores, found.gradients, list(moved.values())

    recorded = make_fx(step)(tensors, list(episodes))
    on_gpu = episodes.support_x.device.type == "cuda"
    # A GPU uses CUDA graphs, because small operators spend most of their time on starting.
    program = torch.compile(recorded, fullgraph=True, mode="reduce-overhead" if on_gpu else None)

    def run(tensors: Tensors, episodes: Tensors) -> Result:
        with torch.no_grad():
            if on_gpu:
                torch.compiler.cudagraph_mark_step_begin()
            found = program(tensors, episodes)
            if on_gpu:  # a CUDA graph writes to the same memory every time it runs
                found = tree_map_only(Tensor, Tensor.clone, found)
            losses, scores, gradients, moved = found
            return Result(losses, scores, gradients, dict(zip(moves, moved, strict=True)))

    return run
