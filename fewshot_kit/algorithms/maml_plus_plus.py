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
from .bases.head_rate import HeadRate
from .bases.inner_loop import Loss, Tensors, inner_loop, sgd
from .bases.learned_rate import LearnedRate

FLOOR = 0.03  # of a uniform weight: what an earlier step's loss keeps until the annealing is over


@register("maml_plus_plus")
class MAMLPlusPlus(LearnedRate, HeadRate):
    """MAML++: learned rates and batch norms for every inner step, and at first a loss that counts every step.

    Rates: one for each step and parameter tensor, `rates` `[steps, tensors]` (LSLR). Batch norm: a weight and a bias
    for each step, which the inner loop leaves alone (BNWB), and running statistics for each step (BNRS). The model's
    own are the first step's; `rows` and the buffers `stored_*` hold those of the later ones. The support set before an
    update and the queries after it see the same. Loss: a weighted sum of the query losses after each step (MSL,
    equation 3), with weights that `anneal` moves to the last one.

    As many steps have rates and a batch norm of their own as there were `steps` at creation. Where `steps` is raised
    later, as in `algorithm.steps = 10`, those beyond use the last one's.

    In training mode every pass that is normalised by its own batch moves the running statistics of its step, at the
    layer's momentum. The released code reads them nowhere, which is `transductive`. With `batch_norm="running"` the
    queries of a new task are normalised by those of the last step, and so each by itself; its support set, like all of
    training, goes by its own batch, since rates learned that way lead astray where the stored ones take its place.
    `support` takes the statistics of a query pass from the support set under the same parameters.

    The derivative-order annealing, which is off in the released configurations, is not here; their cosine rate is the
    trainer's `schedule="cosine"`. `HeadRate` and `GradientBased` describe the other options.

    Args:
        lr: where every rate starts, but for those of the head where there is a `head_lr`.
        annealing: fraction of training over which the weights of the loss move to the last step; 0 puts all on it
            at once. By default that of the paper's Omniglot runs, 10 of 100 epochs.
    """

    shaped_by = frozenset({"steps"})
    importance: Tensor  # weights of the query losses after the last steps, one for each step that counts

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
        # Decided by how far training is, and so no part of what is saved.
        self.register_buffer("importance", torch.empty(0, **place), persistent=False)
        self.anneal(0.0)

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        check_counts(steps=self.steps)
        if not isinstance(self.annealing, int | float) or not 0 <= self.annealing <= 1:
            raise InputError(f"annealing is {self.annealing!r}; it must be a fraction of training, from 0 to 1.")

    def anneal(self, progress: float) -> None:
        """Set the weights of the loss: 1 / steps each at the start of training, all on the last step in the end.

        Args:
            progress: fraction of training done, 0 to 1.
        """
        # The released code's arithmetic, with epoch / multi_step_loss_num_epochs in one: every earlier weight falls
        # from 1 / steps by 1 / steps / epochs an epoch, not below 0.03 / steps; the last step has the rest; after those
        # epochs the other losses are not computed at all. There the weights change at every epoch, here at every call.
        if progress >= self.annealing:
            weights = [1.0]
        else:
            earlier = max(1 - progress / self.annealing, FLOOR) / self.steps
            weights = [earlier] * (self.steps - 1) + [1 - (self.steps - 1) * earlier]
        self.importance = self.rates.new_tensor(weights)

    def started(self, missing: list[str]) -> None:
        """Every step's batch norm starts as the network's, unless all have come."""
        of_steps = [(f"rows.{i}", name) for i, name in enumerate(self.norms)]
        of_steps += [(table, name) for name, table in self.stored.items()]
        own, state = self.model.state_dict(), self.state_dict()
        with torch.no_grad():
            for table, name in of_steps:
                if table in missing:
                    state[table].copy_(own[name])

    def adapts(self) -> set[str]:
        """Names of all parameters but those of batch norm."""
        return set(self.adapting)

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The weighted sum of the query losses, and the query scores after the last step `[Q, classes]`."""
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
        """After each step; the parameters and buffers include those of batch norm there."""
        found = []
        loss = self.support_loss(x, y, order)
        for step in range(self.steps):
            rates, norms, statistics = self._at(step)
            parameters, buffers = inner_loop(
                _with(norms, loss), parameters, {**buffers, **statistics}, sgd(rates), 1, order
            )
            found.append(({**parameters, **norms}, buffers))
        return found

    @property
    def policy(self) -> Policy:
        """In training every pass goes by its own batch, and moves the statistics of its step; later support sets do."""
        found = super().policy
        if not self.training:
            return replace(found, support="batch")
        return replace(found, support="moving", queries="support" if found.queries == "support" else "moving")

    def _store(self, passed: list[Tensors]) -> None:
        """Keep the running statistics that each step's passes have left; of steps that share a row, the last one's."""
        with torch.no_grad():
            for step, buffers in enumerate(passed):
                for name, table in self.stored.items():
                    row = min(step, len(self.rates) - 1)
                    into = self.get_buffer(table)[row - 1] if row else self.model.get_buffer(name)
                    into.copy_(buffers[name])

    def _at(self, step: int) -> tuple[Tensors, Tensors, Tensors]:
        """The rates of a step, and batch norm's parameters and buffers there in place of the model's own, by name."""
        row = min(step, len(self.rates) - 1)
        rates = dict(zip(self.adapting, self.rates[row].unbind(), strict=True))
        if not row:
            return rates, {}, {}
        norms = {name: table[row - 1] for name, table in zip(self.norms, self.rows, strict=True)}
        return rates, norms, {name: self.get_buffer(table)[row - 1] for name, table in self.stored.items()}

    def figures(self) -> dict[str, float]:
        """The mean rate of every step, over the parameter tensors."""
        return {f"rate_{step}": float(rate) for step, rate in enumerate(self.rates.detach().mean(1), 1)}


def _with(norms: Tensors, loss: Loss) -> Loss:
    """The loss at these values of batch norm, which do not adapt."""
    return lambda parameters, buffers: loss({**parameters, **norms}, buffers)
