"""The base of the algorithms with an inner loop, such as MAML, ANIL, BOIL and fine-tuning."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...errors import InputError, in_digits
from ...modules.batch_norm import Policy, enough_examples, find_policy
from ...modules.heads import find_head, linear_head
from ...modules.layers import batch_norms, layers, looked_for_once, standing_in, tensors_of
from ...modules.modes import twice_differentiable
from ...ranges import check_counts, check_rate, is_finite
from .class_means import start_of_head
from .clipping import clipped
from .descent import Descent, check_methods, plain_rates
from .inner_loop import RULES, Loss, Rule, Tensors, inner_loop, variable
from .protocol import Algorithm, Criterion
from .recomputed import Within


class GradientBased(Algorithm):
    """Base of the inner-loop algorithms. A subclass says which parameters adapt (`adapts`) and by which rule (`rule`).

    The state of a task is `{"parameters", "buffers", "statistics"}`. `parameters` are the adapted ones, by name.
    `buffers` are the model's, by name, without those of batch norm if it does not read them. `statistics` are those of
    the support set, if batch norm normalises queries by them.

    Args:
        model: any `nn.Module` that gives scores `[N, classes]`.
        lr: learning rate of the inner loop.
        first_order: leave out the derivative of the inner gradients.
        steps: number of inner-loop steps.
        optimizer: update rule of the inner loop, `"sgd"` (plain steps) or `"adam"`. Adam needs no rate for each layer;
            use it with `first_order=True`, since its steps hardly depend on the size of the gradients. Algorithms with
            a rule of their own do not take this option.
        clip: largest norm of the inner gradients, over all parameters that adapt together. A step whose gradients are
            longer is taken along the same direction at this norm; None takes them as they are.
        head: name of the head; by default the last `nn.Linear`.
        class_means: start every task's head at the class means of its support features, where it scores as a
            prototypical network does (Proto-MAML). The model's own head is then not used.
        checkpoint: compute every inner step a second time in the outer backward pass, in place of keeping what it
            saved. Memory then hardly grows with `steps`, and the time by about one more inner loop. The gradients are
            the same. The engine `"vmap"` cannot do this.
        truncate: number of last steps that the meta-gradient flows through, by default all (Shaban, Cheng, Hatch and
            Boots, "Truncated Back-propagation for Bilevel Optimization", 2019). The steps before them keep no graph:
            the gradient with respect to the parameters that they led to becomes, unchanged, that of the initial
            parameters. 0 is the gradient of `first_order=True`, and `steps` or more the full one.
        batch_norm: where batch norm takes its statistics from. `transductive`: from the batch at hand, so that
            queries are normalised together (the MAML paper). `support`: from the support set under the adapted
            parameters (inductive). `running`: from the stored statistics, which meta-training does not change.
        criterion: `(scores, targets) -> scalar`; by default chosen by the targets.

    Raises:
        InputError: steps below 0, a rate or `clip` that is no positive number, an unknown policy or head; `checkpoint`
            or `truncate` for an algorithm whose meta-gradient does not flow through the inner steps.
    """

    descends = True
    keeps_head = True
    takes_rules = True  # whether `optimizer` may name the update rule; False for algorithms with a rule of their own
    through_steps = True
    lr: float
    steps: int
    batch_norm: str

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        first_order: bool = False,
        *,
        steps: int = 1,
        optimizer: str = "sgd",
        clip: float | None = None,
        head: str | None = None,
        class_means: bool = False,
        batch_norm: str = "transductive",
        checkpoint: bool = False,
        truncate: int | None = None,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__(model, criterion)
        self.lr, self.first_order, self.steps, self.optimizer = lr, first_order, steps, optimizer
        self.clip, self.head, self.class_means, self.batch_norm = clip, head, class_means, batch_norm
        self.checkpoint, self.truncate = checkpoint, truncate

    def check(self) -> None:
        """Raises `InputError` for options out of range, and a head that the model does not have."""
        if not isinstance(self.lr, int | float) or not is_finite(self.lr) or self.lr <= 0:
            said = in_digits(self.lr) if isinstance(self.lr, int) else repr(self.lr)
            raise InputError(f"The inner loop's lr is {said}; it must be a positive number.")
        if not isinstance(self.steps, int) or self.steps < 0:
            raise InputError(f"The inner loop's steps are {self.steps!r}; they must be a whole number, 0 or more.")
        check_counts(0, steps=self.steps)
        if self.optimizer not in RULES:
            raise InputError(f"optimizer is {self.optimizer!r}; it must be one of {', '.join(RULES)}.")
        if self.optimizer != "sgd" and not self.takes_rules:
            raise InputError(f"{type(self).__name__} has a rule of its own; leave optimizer={self.optimizer!r} out.")
        if self.clip is not None:
            check_rate(clip=self.clip)
        if self.head is not None:
            find_head(self.model, self.head)
        if self.truncate is not None:
            check_counts(0 if self.takes_rules else 1, truncate=self.truncate)  # with 0, no rule of its own would learn
        if not self.through_steps and (self.checkpoint or self.truncate is not None):
            said = "checkpoint=True" if self.checkpoint else f"truncate={self.truncate}"
            raise InputError(
                f"The meta-gradient of {type(self).__name__} does not flow through the inner steps; leave {said} out."
            )
        self.policy.check(self.model)

    @property
    def policy(self) -> Policy:
        """Returns how batch norm runs; a subclass may override it."""
        return find_policy(self.batch_norm, twice=True)

    @property
    def max_ways(self) -> int | None:
        """Number of classes that the head can tell apart; None if the model has no linear head."""
        head = linear_head(self.model, self.head)
        return head.out_features if head is not None else None

    @property
    def together(self) -> bool:
        """Whether the scores of a query depend on the other queries: by the method, or by batch norm's statistics."""
        return self.transductive or self.policy.together(self.model)

    def adapts(self) -> set[str]:
        """Names of the parameters that the inner loop changes."""
        return set(layers(self.model).parameters)

    def initial(self) -> Tensors:
        """Returns the parameters that the inner loop starts from, by name."""
        names = self.adapts()
        own = tensors_of(self.model, layers(self.model).parameters)
        return {name: p for name, p in own.items() if name in names and p.requires_grad}

    def rule(self) -> Rule:
        """The inner loop's update rule."""
        return RULES[self.optimizer](self.lr)

    def descent(self, same: Mapping[str, Callable[..., Any]] | None = None) -> Descent:
        """Returns the inner loop, if it takes plain steps on the criterion.

        Args:
            same: methods, by name, that a subclass overrides to the same effect.

        Raises:
            InputError: an option or a method of a subclass makes the loop do anything else.
        """
        check_methods(type(self), GradientBased, same or {})
        name = type(self).__name__
        options = {"clip": self.clip, "truncate": self.truncate}
        options |= {"class_means": self.class_means or None, "checkpoint": self.checkpoint or None}
        if said := [f"{option}={value}" for option, value in options.items() if value is not None]:
            raise InputError(f"With {said[0]}, {name} takes no plain steps.")
        rates = plain_rates(self.rule(), self.initial(), name)
        return Descent(rates, self.steps, self.first_order, self.policy)

    @looked_for_once()
    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"parameters", "buffers", "statistics"}`.

        It works under `no_grad` and `inference_mode` too; the state then carries no graph.
        """
        if torch.is_inference_mode_enabled():
            with torch.inference_mode(False), torch.no_grad():
                return GradientBased.adapt(self, x.clone(), y.clone())
        return self.remembered(self.trajectory(x, y)[-1], x)

    def trajectory(self, x: Tensor, y: Tensor) -> list[tuple[Tensors, Tensors]]:
        """Runs `descend` from the start of a task and the model's own buffers, and returns its result."""
        differentiable, normalising = torch.is_grad_enabled(), batch_norms(self.model).values()
        # Batch norm's statistics are copied for every task only if a pass reads them.
        unread = set() if self.policy.reads_stored else {id(buffer) for m in normalising for buffer in m.buffers()}
        stored = tensors_of(self.model, layers(self.model).buffers)
        buffers = {name: b.detach().clone() for name, b in stored.items() if id(b) not in unread}
        order = 0 if not differentiable else 1 if self.first_order else 2
        with torch.enable_grad(), self._stepping(self.policy):
            return self.descend(x, y, self.start(x, y, buffers, order), buffers, order)

    @contextlib.contextmanager
    def _stepping(self, policy: Policy) -> Iterator[None]:
        with policy.on_support(self.model), twice_differentiable(self.model):
            yield

    def again(self) -> Within | None:
        """Returns what `inner_loop` takes as `again`: the context of an inner step if `checkpoint` asks for it."""
        return functools.partial(self._stepping, self.policy) if self.checkpoint else None

    def start(self, x: Tensor, y: Tensor, buffers: Tensors, order: int) -> Tensors:
        """Returns the parameters that the task's inner loop starts from: `initial`, or with the head at class means."""
        parameters = self.initial()
        if not self.class_means:
            return parameters
        with torch.set_grad_enabled(order > 0):
            name = find_head(self.model, self.head)
            head = start_of_head(self.model, name, parameters, lambda: self.run({}, buffers, x)[0], y)
        # The head was computed from these same parameters. Views keep the gradient of a step from going through that.
        own = {part: p.view_as(p) for part, p in parameters.items()}
        return own | {part: variable(p) for part, p in head.items()}

    def descend(
        self, x: Tensor, y: Tensor, parameters: Tensors, buffers: Tensors, order: int
    ) -> list[tuple[Tensors, Tensors]]:
        """Runs the inner loop and returns a list whose last item is the adapted parameters and buffers.

        A subclass with another loop overrides it, and may put the results of earlier steps before the last item. The
        caller has set batch norm for a support set.

        Args:
            x, y: support set `[S, ...]`, `[S]`.
            parameters, buffers: where the loop starts, by name.
            order: as in `inner_loop`.
        """
        loss = self.support_loss(x, y, order)
        rule, truncate, again = clipped(self.rule(), self.clip), self.truncate, self.again()
        return [inner_loop(loss, parameters, buffers, rule, self.steps, order, truncate=truncate, again=again)]

    def remembered(self, adapted: tuple[Tensors, Tensors], x: Tensor) -> dict[str, Any]:
        """Returns the state of a task, made from its adapted parameters and buffers and its support images `x`."""
        parameters, buffers = adapted
        if not torch.is_grad_enabled():
            parameters = {name: p.detach() for name, p in parameters.items()}
        state: dict[str, Any] = {"parameters": parameters, "buffers": {n: b.detach() for n, b in buffers.items()}}
        policy = replace(self.policy, twice=False)
        if policy.queries == "support":
            with policy.on_support(self.model), policy.kept(self.model) as state["statistics"]:
                self.run(parameters, buffers, x)
        return state

    def support_loss(self, x: Tensor, y: Tensor, order: int) -> Loss:
        """Returns the loss that the inner loop descends, as a function of the adapting parameters and the buffers.

        Args:
            order: as in `inner_loop`; below 2, parameters that do not adapt need no graph.
        """

        def loss(parameters: Tensors, buffers: Tensors) -> tuple[Tensor, Tensors]:
            scores, buffers = self.run(parameters, buffers, x)
            return self.criterion(scores, y), buffers

        return loss

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]` of the adapted model."""
        return self.answered(state, x)[0]

    @looked_for_once()
    def answered(self, state: dict[str, Any], x: Tensor) -> tuple[Tensor, Tensors]:
        """Query set `[Q, ...]` -> scores `[Q, classes]`, and the buffers after the forward pass."""
        with self.policy.on_queries(self.model, state.get("statistics", {})), twice_differentiable(self.model):
            return self.run(state["parameters"], state["buffers"], x)

    def run(self, parameters: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        """Runs the model with these parameters and buffers; returns scores `[N, classes]` and the buffers afterwards.

        A subclass overrides it if it adapts something other than parameters of the model.
        """
        # Layers such as batch norm write to their buffers. They get copies, so that no task's state is changed.
        buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        given = {**parameters, **buffers}
        found = layers(self.model)
        with enough_examples(len(x), self.batch_norm):
            if found.recurrent:
                return functional_call(self.model, given, (x,), tie_weights=found.tied), buffers
            with standing_in(self.model, given):
                return self.model(x), buffers

    def check_clonable(self) -> None:
        """Raises `InputError` if the libraries' learners, which take plain steps, would not do the same."""
        if self.class_means:
            raise InputError(
                "learn2learn's and higher's learners start from the model's own head, and class_means is True; use "
                "adapt(x, y) and predict(state, x), or class_means=False."
            )
        if self.clip is not None:
            raise InputError(
                f"learn2learn's and higher's learners do not clip, and clip is {self.clip:g}; use adapt(x, y) and "
                "predict(state, x), or no clip."
            )
        if self.optimizer != "sgd":
            raise InputError(
                f"learn2learn's and higher's learners take plain steps, and optimizer is {self.optimizer!r}; use "
                "adapt(x, y) and predict(state, x), or optimizer='sgd'."
            )
        if self.truncate is not None:
            raise InputError(
                f"learn2learn's and higher's learners keep the graph of all steps, and truncate is {self.truncate}; "
                "use adapt(x, y) and predict(state, x), or leave truncate out."
            )
