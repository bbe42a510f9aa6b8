"""The controller of a memory-augmented network: an LSTM, its read and write heads, and the output layer."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...modules.lstm import lstm_cell
from .memory import access, blank

STRENGTH = 10.0  # initial key strength; plain cosines would leave a softmax over 128 rows nearly flat
SHUT = -2.0  # initial bias of the forget gate and of alpha, whose sigmoid is 0.12
LABEL = 0.5  # length of the label's part of a row; the part that a key matches has about length 1
LINEAR = 4.0  # weight by which a unit copies another one, since its input and output gates are half open


class Controller(nn.Module):
    """One time step: `(state, embeddings [B, D], previous label) -> state, scores [B, ways]`.

    The state holds the memory, the LSTM's `hidden` and `cell` `[B, H]`, and the last `read` `[B, n W]`.

    Args:
        inputs: D, the number of features of an embedding.
        ways: number of classes that the output layer tells apart.
        width: W, the number of values in a memory row.
        reads: n, the number of read heads; each has a write head.
        hidden: H, the number of units of the LSTM.
        place: device and dtype.
    """

    def __init__(self, inputs: int, ways: int, width: int, reads: int, hidden: int, place: dict[str, Any]) -> None:
        super().__init__()
        self.inputs, self.ways, self.width, self.reads = inputs, ways, width, reads
        # One matrix serves all gates of the LSTM, and all their inputs.
        self.lstm = nn.Linear(inputs + ways + reads * width + hidden, 4 * hidden, **place)
        self.keys = nn.Linear(hidden, reads * width, **place)
        self.content = nn.Linear(hidden + ways, reads * width, **place)
        self.alpha = nn.Linear(hidden, reads, **place)
        self.log_strengths = nn.Parameter(torch.full((reads,), math.log(STRENGTH), **place))
        self.output = nn.Linear(hidden + reads * width, ways, **place)
        with torch.no_grad():
            self._connect(hidden)

    def _connect(self, hidden: int) -> None:
        """Sets initial weights that match similar examples from the start; training alone finds this very slowly.

        The first half of the hidden units sees the embedding alone. The second half repeats what the first half showed
        one step before, at the example whose label arrives now. Keys are made from the first half, and rows are written
        from the second half, by the same weights, so that a key finds the rows of similar examples. The label's part of
        a row is orthogonal to the part that keys match, if a row has more values than there are classes. A label that
        is read adds to its own class's score.
        """
        half, before = hidden // 2, self.lstm.in_features - hidden
        new, keys = self.lstm.weight.chunk(4)[2], self.keys.weight
        nn.init.orthogonal_(new[:half, : self.inputs])
        new[:half, self.inputs :] = 0
        new[half : 2 * half] = 0
        new[half : 2 * half, before : before + half].fill_diagonal_(LINEAR)
        for bias in (self.lstm.bias.chunk(4)[2], self.keys.bias, self.content.bias):
            bias.zero_()
        for gate in (self.lstm.bias.chunk(4)[1], self.alpha.bias):
            gate.fill_(SHUT)
        labels = nn.init.orthogonal_(keys.new_empty(self.width, self.ways))
        nn.init.orthogonal_(keys[:, :half], gain=math.sqrt(self.reads))
        keys[:, half:] = 0
        if self.ways < self.width:
            heads = keys.view(self.reads, self.width, hidden)
            heads -= labels @ (labels.T @ heads)
        self.content.weight.zero_()[:, half : 2 * half] = keys[:, :half]
        self.content.weight[:, hidden:] = LABEL * labels.repeat(self.reads, 1)
        self.output.weight[:, hidden:] = labels.T.repeat(1, self.reads) / LABEL

    def begin(self, rows: int) -> dict[str, Tensor]:
        """Returns the state before the first step, with a memory of `rows` rows."""
        beside, hidden = self.output.weight, self.keys.in_features
        zeros = {name: beside.new_zeros(1, hidden) for name in ("hidden", "cell")}
        zeros["read"] = beside.new_zeros(1, self.reads * self.width)
        return {**zeros, **blank(rows, self.width, self.reads, beside)}

    def forward(
        self, state: dict[str, Tensor], x: Tensor, label: Tensor, decay: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Returns the state after one time step, and the scores `[B, ways]`.

        Args:
            state: the state before the step; the embeddings may share one state (B = 1).
            x: embeddings `[B, D]`; each is presented to its own copy of the state.
            label: label of the example before, one-hot `[1, classes]`; zeros at the first step.
            decay: gamma, the factor by which the usage decays.
        """
        label = F.pad(label, (0, self.ways - label.shape[1])).expand(len(x), -1)
        past = [state[name].expand(len(x), -1) for name in ("read", "hidden")]
        hidden, cell = lstm_cell(self.lstm(torch.cat([x, label, *past], 1)), state["cell"])
        shape = (self.reads, self.width)
        keys = self.keys(hidden).unflatten(1, shape)
        content = self.content(torch.cat([hidden, label], 1)).unflatten(1, shape)
        gates = torch.sigmoid(self.alpha(hidden))
        memory, read = access(state, keys, self.log_strengths.exp(), content, gates, decay)
        read = read.flatten(1)
        scores: Tensor = self.output(torch.cat([hidden, read], 1))
        return {"hidden": hidden, "cell": cell, "read": read, **memory}, scores
