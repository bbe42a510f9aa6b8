"""The cell against PyTorch's own."""

import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit.modules.lstm import lstm_cell


def test_it_is_pytorchs_cell_along_either_dimension():
    generator = torch.Generator().manual_seed(0)
    own = nn.LSTMCell(3, 5, dtype=torch.float64)
    x, hidden, cell = (torch.randn(4, n, dtype=torch.float64, generator=generator) for n in (3, 5, 5))
    expected = own(x, (hidden, cell))
    sums = F.linear(x, own.weight_ih, own.bias_ih) + F.linear(hidden, own.weight_hh, own.bias_hh)
    torch.testing.assert_close(lstm_cell(sums, cell), expected)
    across = lstm_cell(sums.T, cell.T, 0)
    torch.testing.assert_close(tuple(each.T for each in across), expected)


def test_gates_that_are_open_or_shut():
    """An open forget gate and a shut input gate keep the cell; the other way round the new content takes its place."""
    kept = lstm_cell(torch.tensor([[-200.0, 200, 0.5, 200]]), torch.tensor([[2.0]]))
    assert [each.item() for each in kept] == [torch.tensor(2.0).tanh().item(), 2]
    new = lstm_cell(torch.tensor([[200.0, -200, 0.5, -200]]), torch.tensor([[2.0]]))
    assert [each.item() for each in new] == [0, torch.tensor(0.5).tanh().item()]
