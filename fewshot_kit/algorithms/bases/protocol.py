"""The interface of every algorithm, which trainer, evaluator, `adapt` and engines use."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.splits.contract import TaskSplit
from ...episodes import Episode
from ...errors import InputError
from ...modules.kinds import check_module
from .descent import Descent
from .held_out import by_folds

# What an algorithm has learned of one task: a tensor, or nested dicts, lists and tuples of tensors.
State = Any
Criterion = Callable[[Tensor, Tensor], Tensor]


def default_criterion(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the cross-entropy if the targets are class indices, and the mean squared error if they are floats."""
    if targets.is_floating_point():
        return F.mse_loss(scores.view_as(targets) if scores.numel() == targets.numel() else scores, targets)
    return F.cross_entropy(scores, targets)


def default_losses(scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the `default_criterion` of T tasks `[T]`, of scores `[T, N, ...]` and targets `[T, N, ...]`."""
    if targets.is_floating_point():
        return (scores.view_as(targets) - targets).square().flatten(1).mean(1)
    each = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction="none")
    return each.view_as(targets).mean(1)


def _checked(init: Callable[..., None]) -> Callable[..., None]:
    """Returns an `__init__` that looks at the model first and calls `check` last, if it is the object's outermost."""
    takes_model = [*inspect.signature(init).parameters][1:2] == ["model"]

    @functools.wraps(init)
    def made(self: Algorithm, *args: Any, **kwargs: Any) -> None:
        outermost = type(self).__init__ is made
        if outermost and takes_model and (args or "model" in kwargs):
            check_module(args[0] if args else kwargs["model"])
        try:
            init(self, *args, **kwargs)
        except InputError:
            raise
        except Exception:
            if outermost:  # an option out of range may be the cause, and `check` has a message for that
                with contextlib.suppress(AttributeError):
                    self.check()
            raise
        if outermost:
            self.check()

    return made


class Algorithm(nn.Module):
    """The base of all algorithms. It holds what is learned across tasks, and nothing of any one task.

    A new algorithm defines `adapt` and `predict`. `adapt` returns the state of a task and never stores it on `self`,
    so that tasks cannot overwrite each other. Calling an algorithm runs its model.

    Args:
        model: any `nn.Module`.
        criterion: `(scores, targets) -> scalar`; by default chosen by the targets (`default_criterion`).
    """

    recipe: dict[str, Any] | None = None  # name and options that a registry made it from; None if made by hand
    fixed: frozenset[str] = frozenset()  # options that cannot be replaced after creation
    shaped_by: frozenset[str] = frozenset()  # options that decide the shapes of its parameters at creation
    regression = True  # whether it can learn float targets; it can always learn class labels
    transductive = False  # whether the method itself looks at all queries of a task together
    descends = False  # whether `adapt` trains on the support set, for `steps` at `lr`; it should then fit that set
    through_steps = False  # whether the meta-gradient flows through inner steps
    checkpoint = False  # whether inner steps are computed again on the way back, in place of keeping their graph
    keeps_head = False  # whether the scores are the model's own outputs, whose number then limits the classes
    classes: int | None = None  # number of training classes that `loss` tells apart, if `draw` gives labelled batches
    batch_norm: str | None = None  # name of its batch-norm policy, if it has one
    head: str | None = None  # name of the model's head; None for the last `nn.Linear`
    lr: float | None = None  # learning rate of its inner loop, if it has one
    steps: int | None = None  # number of steps of its inner loop, if it has one

    @_checked
    def __init__(self, model: nn.Module, criterion: Criterion | None = None) -> None:
        super().__init__()
        check_module(model)
        self.model = model
        self.criterion = criterion or default_criterion

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _checked(vars(cls)["__init__"]))  # noqa: B010  mypy forbids the assignment

    def check(self) -> None:
        """Raises `InputError` for options out of range; by default it does nothing.

        It is called once after the outermost `__init__`, and again after options were replaced.
        """

    def adapt(self, x: Tensor, y: Tensor) -> State:
        """Support set `[S, ...]`, `[S]` -> state, what was learned of this task."""
        raise NotImplementedError(f"{type(self).__name__} does not define adapt(x, y).")

    def predict(self, state: State, x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`, or regression outputs."""
        raise NotImplementedError(f"{type(self).__name__} does not define predict(state, x).")

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns the scalar that meta-training minimises for one episode, and the query scores `[Q, classes]`."""
        state = self.adapt(episode.support_x, episode.support_y)
        scores = self.predict(state, episode.query_x)
        return self.criterion(scores, episode.query_y), scores

    def draw(
        self,
        split: TaskSplit,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> Episode:
        """Draws the episodes of one meta-update from the training split, with a leading dimension T = `meta_batch`.

        `LearnsClasses` draws labelled batches instead, as query sets without a support set.

        Args:
            split: the training split.
            ways, shots, queries: number of classes in an episode, and of support and query examples of each class.
            generator: the random generator of the draw.
            device: device that the examples are put on.

        Raises:
            InputError: the split refuses the request.
        """
        return split.episodes(ways, shots, queries, meta_batch, generator=generator, device=device)

    def adapts(self) -> set[str]:
        """Returns the names of the model's parameters that the inner loop changes; by default none."""
        return set()

    def descent(self) -> Descent:
        """Returns its inner loop, if that takes plain gradient steps, so that an engine may take them.

        Raises:
            InputError: it does anything else.
        """
        raise InputError(f"{type(self).__name__} takes no plain gradient steps.")

    @property
    def max_ways(self) -> int | None:
        """Number of classes that it can tell apart; None if there is no limit."""
        return None

    @property
    def together(self) -> bool:
        """Whether the scores of a query depend on the other queries, so that all must be predicted together."""
        return self.transductive

    def held_out(self, x: Tensor, y: Tensor) -> Tensor:
        """Support set `[S, ...]`, class indices `[S]` -> held-out scores `[S, classes]`.

        Each example is scored after adapting to the support set without the example's fold. The only example of a class
        has the scores 0.
        """
        return by_folds(lambda x, y, held: self.predict(self.adapt(x, y), held), x, y)

    def on_embeddings(self) -> tuple[Callable[[Tensor], Tensor], Algorithm] | None:
        """Returns the map from examples `[N, ...]` to embeddings `[N, D]`, and the same algorithm on embeddings.

        An evaluation then embeds every image only once. None if an example is not embedded by itself.
        """
        return None

    def at_once(self, episodes: Episode) -> Tensor | None:
        """T episodes of embeddings -> query scores `[T, Q, classes]`, without an engine; None by default.

        An evaluation asks for them first, since an engine takes longer than such small tasks do.
        """
        return None

    def begin(self, split: TaskSplit, iterations: int) -> None:
        """Called once before the first meta-update, with the training split and the number of meta-updates.

        By default it does nothing. Statistics of the split, such as the mean of its features, belong in a buffer.
        """

    def started(self, missing: list[str]) -> None:
        """Called after weights were loaded (`initial.start_from`), with the names of the tensors that were not loaded.

        By default it does nothing. An algorithm that copied tensors of the network at creation has to copy them again.
        """

    def anneal(self, progress: float) -> None:
        """Called before every meta-update with the fraction of training done, 0 to 1; by default it does nothing.

        Values that depend on it belong in a buffer, since every engine passes buffers to its workers.
        """

    def figures(self) -> dict[str, float]:
        """Returns figures of the algorithm itself, by name, to be recorded at each validation; by default none."""
        return {}

    def clone(self) -> Any:
        """Returns a learner with learn2learn's `adapt(loss)` and `forward`, made by learn2learn or higher."""
        raise InputError(f"{type(self).__name__} has no learner of its own; use adapt(x, y) and predict(state, x).")

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)
