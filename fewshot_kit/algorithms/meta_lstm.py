"""Ravi and Larochelle, "Optimization as a Model for Few-Shot Learning", ICLR 2017."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..modules.lstm import lstm_cell
from ..modules.place import place_of
from ..ranges import check_counts
from ._registry import register
from .bases.inner_loop import Rule, Tensors
from .bases.learned_rate import LearnedRate

P = 10  # of the preprocessing: magnitudes below e^-P are taken as they are, times e^P
SMALL = 0.01  # the weights start within this of 0, so that the gates start from their biases alone
OPEN = 5.0  # where the bias of the forget gate starts: the gate is at 0.993

# Of n parameters: the first layer's hidden and cell state, `[hidden, n]` each, and the gates `[2, n]`.
Memory = tuple[Tensor, Tensor, Tensor]


@register("meta_lstm")
class MetaLSTM(LearnedRate):
    """The inner loop's update rule is learned: an LSTM decides every parameter's step and decay from its gradient.

    Each parameter goes through the same two layers, with a state of its own. The first is an LSTM of `hidden` units
    that sees the gradient g and the support loss, each preprocessed to two numbers (`preprocessed`). The second is the
    paper's meta-learner; its cell state is the parameter theta itself, with the first layer's output h in the place of
    the gradient and the loss that the paper's equations show the gates, as in the authors' own code:

        i_t = sigmoid(W_I [h_t, theta_(t-1), i_(t-1)] + b_I)
        f_t = sigmoid(W_F [h_t, theta_(t-1), f_(t-1)] + b_F)
        theta_t = f_t theta_(t-1) - i_t g_t

    The gates see their previous values, as the equations say; the authors' code hands on what enters the sigmoid. They
    start from 0, the cell state from the model's own parameters, which are learned (the paper's c_0). Gradients and
    losses are constants to the meta-gradient, which goes through the gates and theta.

    Batch norm as in the paper is `batch_norm="transductive"` in meta-training and, for new tasks,
    `evaluate(..., batch_norm="support")`. The paper's statistics of the support set are a moving average over the
    steps; `support` takes those of the adapted model. `GradientBased` describes the other options. The authors take 12
    steps with one example of each class and 8 with five. A step of one episode keeps some 700 bytes for each parameter.

    Args:
        lr: where the input gate starts, between 0 and 1: at first the rule is nearly gradient descent at this rate.
        hidden: units of the first layer.
    """

    fixed = LearnedRate.fixed | {"hidden"}
    takes_rules = False

    def __init__(self, model: nn.Module, lr: float = 0.4, *, steps: int = 3, hidden: int = 20, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, steps=steps, **options)
        check_counts(hidden=hidden)
        place = place_of(model)
        self.first = nn.LSTMCell(4, hidden, **place)
        self.gates = nn.Linear(hidden + 2, 2, **place)  # of the input gate, then of the forget gate
        with torch.no_grad():
            for weight in (*self.first.parameters(), self.gates.weight):
                weight.uniform_(-SMALL, SMALL)
            self.gates.bias.copy_(torch.tensor([math.log(lr / (1 - lr)), OPEN], **place))

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        if self.lr >= 1:
            raise InputError(f"MetaLSTM's lr is {self.lr}; it is where a sigmoid starts, and must be below 1.")

    def rule(self) -> Rule:
        """One step of both layers for all parameters at once, which are laid end to end."""
        return Rule(self._begin, self._step)

    def _begin(self, parameters: Tensors) -> Memory:
        n, weight = sum(p.numel() for p in parameters.values()), self.first.weight_hh
        hidden, cell, gates = (weight.new_zeros(rows, n) for rows in (weight.shape[1], weight.shape[1], 2))
        return hidden, cell, gates

    def _step(
        self, parameters: Tensors, gradients: Tensors, loss: Tensor, memory: Memory, step: int
    ) -> tuple[Tensors, Memory]:
        if not parameters:  # all are frozen
            return parameters, memory
        theta = torch.cat([p.flatten() for p in parameters.values()])
        slope = torch.cat([gradients[name].flatten() for name in parameters])
        # Parameters run along the last dimension, which leaves every gate contiguous, and the loss, the same for all of
        # them, is part of the bias.
        first, (hidden, cell, gates) = self.first, memory
        bias = first.bias_ih + first.bias_hh + first.weight_ih[:, 2:] @ preprocessed(loss)
        weight = torch.cat([first.weight_ih[:, :2], first.weight_hh], 1)
        sums = torch.addmm(bias[:, None], weight, torch.cat([preprocessed(slope), hidden]))
        hidden, cell = lstm_cell(sums, cell, 0)
        of_hidden, of_theta, of_gates = self.gates.weight.split([len(hidden), 1, 1], 1)
        sums = torch.addmm(self.gates.bias[:, None], of_hidden, hidden) + of_theta * theta + of_gates * gates
        gates = torch.sigmoid(sums)
        pieces = (gates[1] * theta - gates[0] * slope).split([p.numel() for p in parameters.values()])
        moved = {name: piece.view(p.shape) for (name, p), piece in zip(parameters.items(), pieces, strict=True)}
        return moved, (hidden, cell, gates)


def preprocessed(x: Tensor) -> Tensor:
    """`[...]` -> `[2, ...]`: (log |x| / p, sign x) where |x| >= e^-p, (-1, e^p x) elsewhere (section 3.2)."""
    return torch.stack([x.abs().clamp(min=math.exp(-P)).log() / P, (math.exp(P) * x).clamp(-1, 1)])
