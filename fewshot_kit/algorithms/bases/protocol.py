"""The protocol that every algorithm follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.splits.contract import TaskSplit
from ...episodes import Episode
from .held_out import by_folds

# What was learned of one task: a tensor, or any nesting of dicts, lists and tuples of tensors.
State = Any
Criterion = Callable[[Tensor, Tensor], Tensor]


def default_criterion(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy where the targets are class indices, mean squared error where they are floats."""
    if targets.is_floating_point():
        return F.mse_loss(scores.view_as(targets) if scores.numel() == targets.numel() else scores, targets)
    return F.cross_entropy(scores, targets)


class Algorithm(nn.Module):
    """Holds what is learned across tasks, and nothing of any one task.

    A new algorithm defines `adapt` and `predict`. State is returned, never stored on `self`, so that
    tasks cannot overwrite each other. Calling an algorithm runs its model.

    Args:
        model: any `nn.Module`.
        criterion: `(scores, targets) -> scalar`; by default chosen by the targets (`default_criterion`).
    """

    recipe: dict[str, Any] | None = None  # how a registry made it; None for an object made by hand
    regression = True  # whether it can learn float targets; class labels it always can
    shaped_by: frozenset[str] = frozenset()  # options that its parameters' shapes follow, when it is made
    transductive = False  # whether its method itself looks at all queries of a task together
    classes: int | None = None  # training classes that `loss` tells apart, where `draw` gives labelled batches

    def __init__(self, model: nn.Module, criterion: Criterion | None = None) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion or default_criterion

    def adapt(self, x: Tensor, y: Tensor) -> State:
        """Support set `[S, ...]`, `[S]` -> what was learned of this task."""
        raise NotImplementedError(f"{type(self).__name__} does not define adapt(x, y).")

    def predict(self, state: State, x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`, or regression outputs."""
        raise NotImplementedError(f"{type(self).__name__} does not define predict(state, x).")

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """The scalar that meta-training minimises for one episode, and the query scores `[Q, classes]`."""
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
        """What one meta-update learns from, with a leading T = `meta_batch`: episodes of the training split.

        Where classes are learned as classes it is labelled batches instead, as query sets without a support set
        (`LearnsClasses`).

        Args:
            split: the training split.
            ways, shots, queries: classes of an episode, support and query examples of each.
            generator: decides what is drawn.
            device: where the examples are to be.

        Raises:
            InputError: what the split refuses.
        """
        return split.episodes(ways, shots, queries, meta_batch, generator=generator, device=device)

    def held_out(self, x: Tensor, y: Tensor) -> Tensor:
        """Support set `[S, ...]`, class indices `[S]` -> scores `[S, classes]`, each by what was learned without that
        example's fold; 0 where a class has no other example.
        """
        return by_folds(lambda x, y, held: self.predict(self.adapt(x, y), held), x, y)

    def begin(self, split: TaskSplit, iterations: int) -> None:
        """Called once, before the first meta-update, with the training split and how many meta-updates are to come.

        Nothing to do, by default. What is taken from the split, such as the mean of its features, belongs into a
        buffer.
        """

    def started(self, missing: list[str]) -> None:
        """Called after weights came from elsewhere (`initial.start_from`), with the names of the tensors that did not.

        Nothing to do, by default. What was copied from the network when the algorithm was made is to be copied again.
        """

    @property
    def together(self) -> bool:
        """Whether the scores of a query depend on the other queries, so that they cannot be asked for one by one."""
        return self.transductive

    def anneal(self, progress: float) -> None:
        """Called before every meta-update with the fraction of training done, 0 to 1; nothing to do, by default.

        What follows from it belongs into a buffer, which every engine hands to its workers.
        """

    def figures(self) -> dict[str, float]:
        """What is worth writing down of the algorithm itself at each validation; nothing, unless it says so."""
        return {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)
