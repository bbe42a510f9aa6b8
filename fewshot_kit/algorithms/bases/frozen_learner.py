"""The learner that `clone()` of BOIL and ANIL returns: it adapts some parameters of a model and freezes the rest.

It is built on the library higher.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ... import compat


class FrozenLearner(nn.Module):
    """`adapt(loss)` takes one gradient step on the adapting parameters; `forward` runs the adapted model.

    Gradients of the learner's loss reach the model that it was made from, including the frozen parameters.

    Args:
        model: the module to adapt; it is not changed.
        adapting: names of the parameters that `adapt` changes.
        lr: learning rate of the step.
        first_order: leave out the derivative of the step's gradients.
    """

    def __init__(self, model: nn.Module, adapting: set[str], lr: float, first_order: bool = False) -> None:
        super().__init__()
        higher = compat.higher()
        self.first_order = first_order
        self.adapting = [name in adapting for name, _ in model.named_parameters()]
        # higher's own first-order option, track_higher_grads=False, would also cut the gradient to the model itself.
        self.learner = higher.monkeypatch(model, copy_initial_weights=False, track_higher_grads=True)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
        self.optimizer = higher.get_diff_optim(optimizer, model.parameters(), fmodel=self.learner)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.learner(*args, **kwargs)

    def adapt(self, loss: Tensor) -> None:
        """Takes one step along the gradient of `loss`, which this learner has computed."""
        self.optimizer.step(loss, grad_callback=self._keep_adapting)

    def _keep_adapting(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        kept = [g if adapting else None for g, adapting in zip(gradients, self.adapting, strict=True)]
        return [g.detach() if g is not None and self.first_order else g for g in kept]
