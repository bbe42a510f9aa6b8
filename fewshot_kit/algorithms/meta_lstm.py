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

P = 10  # constant of the preprocessing: values below e^-P in magnitude are only scaled, by e^P
SMALL = 0.01  # initial weights lie within this of 0, so that at first the gates depend on their biases alone
OPEN = 5.0  # initial bias of the forget gate, whose sigmoid is 0.993

# The state of n parameters: the first layer's hidden and cell state, `[hidden, n]` each, and the gates `[2, n]`.
Memory = tuple[Tensor, Tensor, Tensor]


@register("meta_lstm")
class MetaLSTM(LearnedRate):
    """An LSTM is the learned update rule of the inner loop: it decides each parameter's step and decay.

    Each parameter goes through the same two layers, with a state of its own. The first layer is an LSTM of `hidden`
    units. It sees the gradient g and the support loss, each preprocessed to two numbers (`preprocessed`). The second
    layer is the paper's meta-learner, whose cell state is the parameter theta itself. Its gates see the first layer's
    output h, as in the authors' own code, where the paper's equations have the gradient and the loss:

        i_t = sigmoid(W_I [h_t, theta_(t-1), i_(t-1)] + b_I)
        f_t = sigmoid(W_F [h_t, theta_(t-1), f_(t-1)] + b_F)
        theta_t = f_t theta_(t-1) - i_t g_t

    The gates see their previous values, as in the equations; the authors' code passes on the input of the sigmoid
    instead. The gates start from 0, and the cell state from the model's own parameters, which are learned (the paper's
    c_0). The meta-gradient goes through the gates and theta, and treats gradients and losses as constants.

    The paper's batch norm is `batch_norm="transductive"` in meta-training and `evaluate(..., batch_norm="support")` for
    new tasks. The paper's statistics of the support set are a moving average over the steps, while `support` takes
    those of the adapted model. `GradientBased` describes the other options. The authors take 12 steps for 1 shot and 8
    for 5 shots. A step of one episode needs some 700 bytes of memory for each parameter.

    Args:
        lr: initial value of the input gate, between 0 and 1; at first the rule is nearly gradient descent at this rate.
        hidden: number of units of the first layer.
    """

    fixed = LearnedRate.fixed | {"hidden"}
    takes_rules = False

    def __init__(self, model: nn.Module, lr: float = 0.4, *, steps: int = 3, hidden: int = 20, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, steps=steps, **options)
        check_counts(hidden=hidden)
        place = place_of(model)
        self.first = nn.LSTMCell(4, hidden, **place)
        self.gates = nn.Linear(hidden + 2, 2, **place)  # the input gate, then the forget gate
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
        """Returns the learned rule, which takes all parameters, joined end to end, through both layers at once."""
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
        # Parameters run along the last dimension, so that every gate is contiguous in memory. The loss is the same for
        # all of them, so it is part of the bias.
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
    """`[...]` -> `[2, ...]`: (log |x| / P, sign x) where |x| >= e^-P, (-1, e^P x) elsewhere (section 3.2)."""
    return torch.stack([x.abs().clamp(min=math.exp(-P)).log() / P, (math.exp(P) * x).clamp(-1, 1)])
