"""An LSTM cell of plain operators, since PyTorch's fused cell does not vectorise over tasks.

Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 1997. The forget gate is from Gers et al.
(2000).
"""

from __future__ import annotations

import torch
from torch import Tensor


def lstm_cell(sums: Tensor, cell: Tensor, dim: int = 1) -> tuple[Tensor, Tensor]:
    """Gates before their activations, previous cell state -> hidden state and cell state.

    Args:
        sums: the weighted sums of input gate, forget gate, new content and output gate, concatenated along `dim` in
            PyTorch's order: `[N, 4 H]` for `dim=1`, `[4 H, N]` for `dim=0`.
        cell: the previous cell state, `[N, H]` or `[H, N]`.
    """
    take, keep, new, show = sums.chunk(4, dim)
    cell = torch.sigmoid(keep) * cell + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(show) * torch.tanh(cell), cell
