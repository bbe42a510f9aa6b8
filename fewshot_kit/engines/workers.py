"""Parts of a meta-batch on threads, with one intra-op thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..modules.modes import twice_differentiable
from .replicas import Copies
from .results import Result, combined

Share = TypeVar("Share")
Part = TypeVar("Part")


def together(
    each: Sequence[Algorithm], shares: Sequence[Share], several: Callable[[Algorithm, Share], Part], copies: Copies
) -> list[Part] | None:
    """What `several` gives for each worker's share; None where a worker has drawn random numbers: then the order of the
    episodes matters, and they have to be run again one after another.

    Args:
        each: an algorithm for every worker, since `functional_call` changes the module while it runs.
        copies: where they are kept; an error may have left them in any state, so that they are given up.
    """
    random, threads, grad = torch.get_rng_state(), torch.get_num_threads(), torch.is_grad_enabled()

    def work(one: Algorithm, share: Share) -> Part:
        torch.set_num_threads(1)
        with torch.set_grad_enabled(grad):
            return several(one, share)

    try:
        # The choice of kernels belongs to the process: made here once, what the workers choose again changes nothing.
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
    """The workers' results -> that of the meta-batch, in the order of its episodes."""
    losses, scores = (in_order([getattr(part, name) for part in parts]) for name in ("losses", "scores"))
    return combined(parts)._replace(losses=losses, scores=scores)


def in_order(shares: Sequence[Tensor]) -> Tensor:
    """What the workers have for their episodes, of which worker i had i, i + n, i + 2n and so on -> in order."""
    count = len(shares)
    return torch.stack([shares[index % count][index // count] for index in range(sum(map(len, shares)))])
