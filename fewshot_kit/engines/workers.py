"""Threads that run parts of a meta-batch, with one intra-op thread each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..modules.modes import twice_differentiable
from ..seeds import shared
from .replicas import Copies
from .results import Result, combined

Share = TypeVar("Share")
Part = TypeVar("Part")


def one_thread() -> contextlib.AbstractContextManager[None]:
    """Runs operators on one thread inside, because the number of threads may change the last bits of their results."""
    return on_threads(1)


@contextlib.contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Runs operators on so many threads inside; None leaves the number as it is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count or threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def together(
    each: Sequence[Algorithm], shares: Sequence[Share], several: Callable[[Algorithm, Share], Part], copies: Copies
) -> list[Part] | None:
    """Returns the result of `several` for each worker's share, or None if a worker drew random numbers.

    With random numbers the order of the episodes matters, so they have to run again one after another.

    Args:
        each: an algorithm for every worker, because `functional_call` changes the module while it runs.
        copies: the store of these algorithms; an error drops them, because it may have left them in any state.
    """
    random, threads, grad = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()

    def work(one: Algorithm, share: Share) -> Part:
        torch.set_num_threads(1)
        shared.set(True)  # in the context of this thread
        with torch.set_grad_enabled(grad):
            return several(one, share)

    try:
        # The choice of kernels belongs to the process. It is made once here; the workers' own choice changes nothing.
        with twice_differentiable(each[0].model), ThreadPoolExecutor(len(each), "episodes") as pool:
            parts = list(pool.map(work, each, shares))
    except BaseException:
        copies.forget()
        raise
    finally:
        torch.set_num_threads(threads)
    if torch.equal(random, torch.get_rng_state()):
        return parts
    torch.set_rng_state(random)
    return None


def gathered(parts: Sequence[Result]) -> Result:
    """Returns the result of the meta-batch from the workers' results, in the order of its episodes."""
    losses, scores = (in_order([getattr(part, name) for part in parts]) for name in ("losses", "scores"))
    return combined(parts)._replace(losses=losses, scores=scores)


def in_order(shares: Sequence[Tensor]) -> Tensor:
    """Returns the workers' tensors in the order of the episodes. Worker i of n had episodes i, i + n, i + 2n, ..."""
    count = len(shares)
    return torch.stack([shares[index % count][index // count] for index in range(sum(map(len, shares)))])
