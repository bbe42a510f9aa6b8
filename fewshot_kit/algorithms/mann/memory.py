"""The external memory of Santoro et al. (ICML 2016): read by content, written to where it was least used of late.

Tensors of a memory start with B, the inputs that are presented at the same time step, or with 1 where they all find
the same one. It has N rows of W values, and n read heads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

INITIAL = 0.01  # of every value: small beside what is written, so that keys can learn to pass by rows never written to

Memory = dict[str, Tensor]  # rows [B, N, W], their usage [B, N], the read weights of the step before [B, n, N]


def blank(rows: int, width: int, reads: int, beside: Tensor) -> Memory:
    """A memory before its first step, on the device and in the dtype of `beside`: nothing written, used or read."""
    return {
        "rows": beside.new_full((1, rows, width), INITIAL),
        "usage": beside.new_zeros(1, rows),
        "weights": beside.new_zeros(1, reads, rows),
    }


def least_used(usage: Tensor, count: int) -> Tensor:
    """Equation 6: the `count` rows of the least usage `[B, N]`, one after another -> `[B, count, N]` of 0 and 1.

    Of rows used equally, as all are at the start, the first come first; the paper's comparison would mark all of them.
    """
    rows = torch.sort(usage, dim=-1, stable=True).indices[..., :count]
    return F.one_hot(rows, usage.shape[-1]).to(usage.dtype)


def write(memory: Memory, content: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 7 and 8, after the least used rows were set to 0.

    Args:
        content: what each head writes, `[B, n, W]`.
        gates: sigmoid(alpha) of each head, `[B, n]`.

    Returns:
        The rows `[B, N, W]` and the write weights `[B, n, N]`.
    """
    least = least_used(memory["usage"], gates.shape[-1])
    weights = gates[..., None] * memory["weights"] + (1 - gates[..., None]) * least
    kept = memory["rows"] * (1 - least.sum(-2))[..., None]
    return kept + weights.transpose(-2, -1) @ content, weights


def read_weights(rows: Tensor, keys: Tensor, strengths: Tensor) -> Tensor:
    """Equations 2 and 3: softmax over the cosines of each key `[B, n, W]` with the rows, `[B, n, N]`.

    Args:
        strengths: factor of each head's cosines `[n]`; 1 in the paper.
    """
    cosines = F.normalize(keys, dim=-1, eps=1e-6) @ F.normalize(rows, dim=-1, eps=1e-6).transpose(-2, -1)
    return torch.softmax(strengths[:, None] * cosines, -1)


def access(
    memory: Memory, keys: Tensor, strengths: Tensor, content: Tensor, gates: Tensor, decay: float
) -> tuple[Memory, Tensor]:
    """One time step: write, then read (equation 4), then reckon the usage (equation 5).

    Returns:
        The memory after the step, and what each head has read, `[B, n, W]`.
    """
    rows, written = write(memory, content, gates)
    weights = read_weights(rows, keys, strengths)
    # No slope goes through the choice of the least used rows, so the usage needs no graph.
    usage = decay * memory["usage"] + (weights + written).sum(-2).detach()
    return {"rows": rows, "usage": usage, "weights": weights}, weights @ rows
