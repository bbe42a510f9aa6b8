"""The cell of an LSTM by plain operators: PyTorch's fused one does not vectorise over tasks.

Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997; the forget gate is of Gers et al. (2000).
"""

from __future__ import annotations

import torch
from torch import Tensor


def lstm_cell(sums: Tensor, cell: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """What the gates see, and the cell state before -> hidden state and cell state.

    Args:
        sums: of input gate, forget gate, new content and output gate, one after another along `dim`, as PyTorch has
            them: `[N, 4 H]` for the second dimension, `[4 H, N]` for the first.
        cell: `[N, H]`, or `[H, N]`.
    """
    take, keep, new, show = sums.chunk(4, dim)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(show) * torch.tanh(cell), cell
