"""Draws the number of queries of each class from a Dirichlet distribution, for episodes with unbalanced queries.

Veilleux et al., "Realistic Evaluation of Transductive Few-Shot Learning", NeurIPS 2021.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

TINY = 1e-12  # least share of a class, so that it can take the queries that other classes have no room for


def query_counts(room: Tensor, total: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Returns the number of queries of each class, int64 `[T, ways]`, which sum to `total` in every episode.

    The proportions are from Dirichlet(alpha, ..., alpha), rounded by the largest remainders. Queries that a class has
    no room for go to the others, in proportion, so that no example is drawn twice.

    Args:
        room: the most queries that each class can give, int64 `[T, ways]`. Each episode's sum is at least `total`.
        total: number of queries of an episode.
        alpha: concentration, positive. A smaller one is less balanced.
        generator: gives one number, which seeds the proportions.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    tasks, ways = room.shape
    shares = torch.from_numpy(np.random.default_rng(seed).dirichlet([alpha] * ways, tasks)).clamp(min=TINY)
    quota, limit = torch.zeros_like(shares), room.to(shares.dtype)
    for _ in range(ways):  # each round either places all remaining queries or fills a class
        open_ = shares * (quota < limit)
        left = total - quota.sum(-1, keepdim=True)
        quota = torch.minimum(quota + left * open_ / open_.sum(-1, keepdim=True).clamp(min=TINY), limit)
    whole = (quota + 1e-6).floor()
    rank = (quota - whole).argsort(dim=-1, descending=True, stable=True).argsort(-1)
    return (whole + (rank < total - whole.sum(-1, keepdim=True))).long()
