"""The external memory of Santoro et al. (ICML 2016): it is read by content and written at the least used rows.

The memory has N rows of W values, and n read heads. The first dimension of its tensors is B, the number of inputs at a
time step, or 1 if all inputs share one memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

INITIAL = 0.01  # initial value; it is small, so that keys can learn to ignore rows that were never written

Memory = dict[str, Tensor]  # rows [B, N, W], their usage [B, N], the read weights of the step before [B, n, N]


def blank(rows: int, width: int, reads: int, beside: Tensor) -> Memory:
    """Returns an empty memory, on the device and in the dtype of `beside`: nothing is written, used or read yet."""
    return {
        "rows": beside.new_full((1, rows, width), INITIAL),
        "usage": beside.new_zeros(1, rows),
        "weights": beside.new_zeros(1, reads, rows),
    }


def least_used(usage: Tensor, count: int) -> Tensor:
    """Usage `[B, N]` -> the `count` least used rows in order, one-hot `[B, count, N]` (equation 6).

    Rows of equal usage, as all are at the start, are taken from the first on. The paper's comparison would mark all of
    them.
    """
    rows = torch.sort(usage, dim=-1, stable=True).indices[..., :count]
    return F.one_hot(rows, usage.shape[-1]).to(usage.dtype)


def write(memory: Memory, content: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Sets the least used rows to 0, then writes to the memory (equations 7 and 8).

    Args:
        content: the values that each head writes, `[B, n, W]`.
        gates: sigmoid(alpha) of each head, `[B, n]`.

    Returns:
        The rows `[B, N, W]` and the write weights `[B, n, N]`.
    """
    least = least_used(memory["usage"], gates.shape[-1])
    weights = gates[..., None] * memory["weights"] + (1 - gates[..., None]) * least
    kept = memory["rows"] * (1 - least.sum(-2))[..., None]
    return kept + weights.transpose(-2, -1) @ content, weights


def read_weights(rows: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
    """Returns the softmax over the cosine similarities of each key with the rows, `[B, n, N]` (equations 2 and 3).

    Args:
        rows: `[B, N, W]`.
        keys: `[B, n, W]`.
        strengths: factor of each head's cosine similarities `[n]`; 1 in the paper.
    """
    cosines = F.normalize(keys, dim=-1, eps=1e-6) @ F.normalize(rows, dim=-1, eps=1e-6).transpose(-2, -1)
    return torch.softmax(strengths[:, None] * cosines, -1)


def access(
    memory: Memory, keys: Tensor, strengths: Tensor, content: Tensor, gates: Tensor, decay: float
) -> tuple[Memory, Tensor]:
    """Takes one time step: writes, then reads (equation 4), then updates the usage (equation 5).

    Returns:
        The memory after the step, and the values that each head has read, `[B, n, W]`.
    """
    rows, written = write(memory, content, gates)
    weights = read_weights(rows, keys, strengths)
    # The choice of the least used rows has no gradient, so the usage needs no graph.
    usage = decay * memory["usage"] + (weights + written).sum(-2).detach()
    return {"rows": rows, "usage": usage, "weights": weights}, weights @ rows
