"""`--compile`: `torch.compile` turns the meta-gradient of a meta-batch into one program.

`make_fx` first records the tensor operators that the engine runs. The compiler then sees a plain list of operators,
whatever the model or the algorithm does in Python. PyTorch keeps compiled programs on disk, so the second start with
the same shapes takes seconds.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map_only

from ..algorithms import Algorithm
from ..episodes import Episode
from ..modules.private import unguarded
from . import factored, vmap
from .results import Result, combined, differentiated

Tensors = list[Tensor]
Step = Callable[..., Result]  # takes the algorithm's tensors and the episodes' tensors


class Program:
    """Compiled meta-gradients of one algorithm: one program for each shape of meta-batch, mode and set of options.

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
        own = [tensor.detach() for tensor in (*algorithm.parameters(), *algorithm.buffers())]
        key = (*map(_kind, own), *map(_kind, episodes), *_settings(algorithm))
        if key not in self.steps:
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the compiler warns about itself; users cannot mend that
                self.steps[key] = _compiled(algorithm, own, episodes, self.engine, self.unfold)
                self.steps[key](*own, *episodes)
            self.seconds += time.perf_counter() - started
        return self.steps[key](*own, *episodes)


def _kind(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _settings(algorithm: Algorithm) -> Iterator[Any]:
    """Yields what a program has as constants: modes, what is trained, and options such as `lr` and `steps`."""
    yield from (module.training for module in algorithm.modules())
    yield from (parameter.requires_grad for parameter in algorithm.parameters())
    yield from (value for value in vars(algorithm).values() if isinstance(value, int | float | str | None))


def _compiled(algorithm: Algorithm, own: Tensors, episodes: Episode, engine: str, unfold: bool) -> Step:
    module = vmap.Losses(algorithm) if engine == "vmap" else factored.Losses(algorithm)
    named = dict(module.named_parameters())
    moving = [name for name, parameter in named.items() if parameter.requires_grad]
    names = [*named, *(name for name, _ in module.named_buffers())]
    reached: list[int] = []  # places of the gradients that are not None
    moves: list[str] = []

    def run_with(episodes: Episode, given: dict[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        if isinstance(module, vmap.Losses):
            return vmap.vectorised(module, episodes, given, unfold)
        return functional_call(module, given, (episodes,)), {}

    # A program takes and gives plain tensors: unpacking dictionaries would slow down one this short.
    def step(*tensors: Tensor) -> Tensors:
        given = dict(zip(names, tensors[: len(names)], strict=True))
        leaves = {name: given[name].detach().requires_grad_() for name in moving}
        (losses, scores), moved = run_with(Episode(*tensors[len(names) :]), {**given, **leaves})
        found = differentiated(losses, scores, list(leaves.values()))
        gradients = {place: g for place, g in enumerate(found.gradients) if g is not None}
        reached[:], moves[:] = gradients, moved
        return [found.losses, found.scores, *gradients.values(), *moved.values()]

    recorded = make_fx(step)(*own, *episodes)
    on_gpu = episodes.support_x.device.type == "cuda"
    if on_gpu:  # by CUDA graphs, because small operators spend most of their time on starting
        program = torch.compile(recorded, fullgraph=True, mode="reduce-overhead")
    else:
        program = unguarded(recorded, [*own, *episodes])

    def run(*tensors: Tensor) -> Result:
        with torch.no_grad():
            if on_gpu:
                torch.compiler.cudagraph_mark_step_begin()
            losses, scores, *others = program(*tensors)
            if on_gpu:  # a CUDA graph writes to the same memory every time it runs
                losses, scores, others = tree_map_only(Tensor, Tensor.clone, (losses, scores, others))
        gradients: list[Tensor | None] = [None] * len(moving)
        for place, gradient in zip(reached, others, strict=False):
            gradients[place] = gradient
        return Result(losses, scores, gradients, dict(zip(moves, others[len(reached) :], strict=True)))

    return run
