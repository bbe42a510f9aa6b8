"""How many queries of each class an episode has, where they are not balanced: proportions from a Dirichlet distribution
(Veilleux et al., "Realistic Evaluation of Transductive Few-Shot Learning", NeurIPS 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TINY = 1e-12  # the least share of a class that has to take what others have no room for


def query_counts(room: Tensor, total: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Queries of each class, by proportions from Dirichlet(alpha, ..., alpha) and rounded by the largest remainders.

    What a class has no room for goes to the others, in proportion, so that nothing is drawn twice.

    Args:
        room: the most that each class can give `[T, ways]`, int64; an episode's sum is at least `total`.
        total: queries of an episode.
        alpha: concentration, positive; the smaller, the less balanced.
        generator: one number is drawn from it, the seed of the proportions.

    Returns:
        int64 `[T, ways]`, summing to `total` along the last dimension.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    tasks, ways = room.shape
    shares = torch.from_numpy(np.random.default_rng(seed).dirichlet([alpha] * ways, tasks)).clamp(min=TINY)
    quota, limit = torch.zeros_like(shares), room.to(shares.dtype)
    for _ in range(ways):  # each round either places all that is left or fills a class
        open_ = shares * (quota < limit)
        left = total - quota.sum(-1, keepdim=True)
        quota = torch.minimum(quota + left * open_ / open_.sum(-1, keepdim=True).clamp(min=TINY), limit)
    whole = (quota + 1e-6).floor()
    rank = (quota - whole).argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return (whole + (rank < total - whole.sum(-1, keepdim=True))).long()
