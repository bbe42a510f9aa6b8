"""Antoniou, Edwards and Storkey, "How to Train Your MAML", ICLR 2019."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..episodes import Episode
from ..errors import InputError
from ..modules.batch_norm import Policy
from ..modules.layers import batch_norms
from ..modules.place import place_of
from ..ranges import check_counts
from ._registry import register
from .bases.clipping import clipped
from .bases.head_rate import HeadRate
from .bases.inner_loop import Loss, Tensors, inner_loop, sgd
from .bases.learned_rate import LearnedRate

FLOOR = 0.03  # share of a uniform weight that an earlier step's loss keeps until the annealing is over


@register("maml_plus_plus")
class MAMLPlusPlus(LearnedRate, HeadRate):
    """MAML++ learns rates and a batch norm for every inner step, and early in training its loss counts every step.

    - Rates (LSLR): one for each step and parameter tensor, `rates` `[steps, tensors]`.
    - Batch norm: each step has its own weight and bias, which the inner loop does not adapt (BNWB), and its own running
      statistics (BNRS). The first step uses the model's own; `rows` and the buffers `stored_*` hold those of the later
      steps. The support set before an update and the queries after it use the batch norm of the same step.
    - Loss (MSL, equation 3): a weighted sum of the query losses after each step. `anneal` moves the weights to the last
      step.

    The number of steps with rates and a batch norm of their own is that of `steps` at creation. If `steps` is raised
    later, as in `algorithm.steps = 10`, the further steps use those of the last one.

    In training mode, every pass that is normalised by its own batch moves the running statistics of its step, at the
    layer's momentum. `transductive` never reads them, as in the released code. With `batch_norm="running"`, the queries
    of a new task are normalised by the running statistics of the last step, so that queries do not depend on each
    other. The support set is still normalised by its own batch, as in training, since the rates were learned that way
    and go wrong with stored statistics. `support` normalises queries by the statistics of the support set under the
    same parameters.

    The derivative-order annealing, which the released configurations turn off, is left out. Their cosine schedule is
    the trainer's `schedule="cosine"`. `HeadRate` and `GradientBased` describe the other options.

    Args:
        lr: initial value of every rate; `head_lr`, if given, is that of the head's rates.
        annealing: fraction of training over which the weights of the loss move to the last step; 0 puts all weight on
            it at once. The default is that of the paper's Omniglot runs, 10 of 100 epochs.
    """

    shaped_by = frozenset({"steps"})
    importance: Tensor  # weights of the query losses after the last steps, one for each step in the loss

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.1,
        first_order: bool = False,
        *,
        steps: int = 5,
        annealing: float = 0.1,
        **options: Any,
    ) -> None:
        self.annealing = annealing
        super().__init__(model, lr, first_order, steps=steps, **options)
        normalising = {id(p) for layer in batch_norms(model).values() for p in layer.parameters()}
        named = dict(model.named_parameters())
        self.norms = [name for name, p in named.items() if id(p) in normalising]
        self.adapting = [name for name in named if name not in self.norms]
        place = place_of(model)
        rates = self.inner_rates()
        self.rates = nn.Parameter(torch.tensor([rates[name] for name in self.adapting], **place).repeat(steps, 1))
        self.rows = nn.ParameterList(
            nn.Parameter(named[name].detach().repeat(steps - 1, 1), requires_grad=named[name].requires_grad)
            for name in (self.norms if steps > 1 else [])
        )
        buffers = dict(model.named_buffers())
        tracked = {id(b) for layer in batch_norms(model).values() for b in (layer.running_mean, layer.running_var)}
        self.stored = {name: f"stored_{i}" for i, name in enumerate(n for n, b in buffers.items() if id(b) in tracked)}
        for name, table in self.stored.items():
            self.register_buffer(table, buffers[name].repeat(steps - 1, 1))
        # The progress of training decides the weights, so they are not saved.
        self.register_buffer("importance", torch.empty(0, **place), persistent=False)
        self.anneal(0.0)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_counts(steps=self.steps)
        if self.truncate is not None:
            raise InputError(
                f"MAML++ learns from the loss after every step; leave truncate={self.truncate} out, or take fewer "
                "steps."
            )
        if not isinstance(self.annealing, int | float) or not 0 <= self.annealing <= 1:
            raise InputError(f"annealing is {self.annealing!r}; it must be a fraction of training, from 0 to 1.")

    def anneal(self, progress: float) -> None:
        """Sets the weights of the loss: 1 / steps each at the start of training, all on the last step in the end.

        Args:
            progress: fraction of training done, 0 to 1.
        """
        # This follows the released code, where progress / annealing is epoch / multi_step_loss_num_epochs. The weight
        # of every earlier step falls from 1 / steps by 1 / steps / epochs in each epoch, but not below 0.03 / steps.
        # The last step has the rest. After these epochs the earlier losses are not computed at all. The released code
        # changes the weights at every epoch, this code at every call.
        if progress >= self.annealing:
            weights = [1.0]
        else:
            earlier = max(1 - progress / self.annealing, FLOOR) / self.steps
            weights = [earlier] * (self.steps - 1) + [1 - (self.steps - 1) * earlier]
        self.importance = self.rates.new_tensor(weights)

    def started(self, missing: list[str]) -> None:
        """Starts the batch norm of every step from the network's, for all tensors that were not loaded."""
        of_steps = [(f"rows.{i}", name) for i, name in enumerate(self.norms)]
        of_steps += [(table, name) for name, table in self.stored.items()]
        own, state = self.model.state_dict(), self.state_dict()
        with torch.no_grad():
            for table, name in of_steps:
                if table in missing:
                    state[table].copy_(own[name])

    def adapts(self) -> set[str]:
        """Returns the names of all parameters but those of batch norm."""
        return set(self.adapting)

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns the weighted sum of the query losses, and the query scores after the last step `[Q, classes]`."""
        steps = self.trajectory(episode.support_x, episode.support_y)
        counted = min(len(self.importance), len(steps))
        passed = [buffers for _, buffers in steps[:-counted]]
        losses = []
        for adapted in steps[-counted:]:
            scores, buffers = self.answered(self.remembered(adapted, episode.support_x), episode.query_x)
            losses.append(self.criterion(scores, episode.query_y))
            passed.append(buffers)
        if self.training:
            self._store(passed)
        return (self.importance[-counted:] * torch.stack(losses)).sum(), scores

    def descend(
        self, x: Tensor, y: Tensor, parameters: Tensors, buffers: Tensors, order: int
    ) -> list[tuple[Tensors, Tensors]]:
        """Returns parameters and buffers after each step, with those of the step's batch norm among them."""
        found = []
        loss, again = self.support_loss(x, y, order), self.again()
        for step in range(self.steps):
            rates, norms, statistics = self._at(step)
            rule = clipped(sgd(rates), self.clip)
            parameters, buffers = inner_loop(
                _with(norms, loss), parameters, {**buffers, **statistics}, rule, 1, order, again=again
            )
            found.append(({**parameters, **norms}, buffers))
        return found

    @property
    def policy(self) -> Policy:
        """Returns how batch norm runs: by stored statistics only for queries of new tasks; training moves them."""
        found = super().policy
        if not self.training:
            return replace(found, support="batch")
        return replace(found, support="moving", queries="support" if found.queries == "support" else "moving")

    def _store(self, passed: list[Tensors]) -> None:
        """Stores the running statistics after each step's passes; of steps that share a row, those of the last."""
        with torch.no_grad():
            for step, buffers in enumerate(passed):
                for name, table in self.stored.items():
                    row = min(step, len(self.rates) - 1)
                    into = self.get_buffer(table)[row - 1] if row else self.model.get_buffer(name)
                    into.copy_(buffers[name])

    def _at(self, step: int) -> tuple[Tensors, Tensors, Tensors]:
        """Returns the rates of a step, and the parameters and buffers of its batch norm, all by name."""
        row = min(step, len(self.rates) - 1)
        rates = dict(zip(self.adapting, self.rates[row].unbind(), strict=True))
        if not row:
            return rates, {}, {}
        norms = {name: table[row - 1] for name, table in zip(self.norms, self.rows, strict=True)}
        return rates, norms, {name: self.get_buffer(table)[row - 1] for name, table in self.stored.items()}

    def figures(self) -> dict[str, float]:
        """Returns the mean rate of every step, over the parameter tensors."""
        return {f"rate_{step}": float(rate) for step, rate in enumerate(self.rates.detach().mean(1), 1)}


def _with(norms: Tensors, loss: Loss) -> Loss:
    """Returns the loss with these parameters of batch norm, which do not adapt."""
    return lambda parameters, buffers: loss({**parameters, **norms}, buffers)
