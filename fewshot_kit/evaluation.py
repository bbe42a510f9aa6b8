"""Evaluates algorithms on a fixed, seeded list of episodes: a mean with a confidence interval."""

from __future__ import annotations

import copy
import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import engines
from .algorithms import Algorithm
from .algorithms.bases.protocol import Criterion, default_criterion, default_losses
from .algorithms.bases.task_check import check_algorithm, check_task
from .algorithms.bases.task_classes import of_ways
from .datasets import Split
from .datasets.splits.contract import LabelledSplit, TaskSplit, check_split
from .episodes import Episode, in_dtype, stack, unstack
from .errors import InputError
from .features import embedded_by
from .modules.modes import kept_modes
from .modules.place import device_of, dtype_of, find_device
from .ranges import check_counts, check_rate
from .seeds import default_draws, stream

BATCH = 16  # episodes at a time, so that memory does not grow with their number


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A mean over episodes and the half width of its 95% interval, 1.96 sample standard deviations / sqrt(n).

    Accuracies are fractions, 0 to 1. Regression is measured by its mean squared error.
    """

    measure: str  # "accuracy" or "mse"
    mean: float
    interval: float  # nan for a single episode, or if an episode diverged
    loss: float  # mean query loss by the algorithm's criterion
    per_episode: list[float] = dataclasses.field(repr=False)
    ways: int
    shots: int
    queries: int
    episodes: int
    seed: int
    batch_norm: str | None  # policy for batch norm's statistics; None if the algorithm has no policy
    split: str
    transductive: bool = False  # whether the algorithm uses all queries of a task together
    dirichlet: float | None = None  # concentration of the queries' class proportions; None if every class has as many
    not_finite: int = 0  # episodes with a query whose scores have no finite largest one; such a query counts as wrong

    @property
    def accuracy(self) -> float | None:
        """The mean accuracy, 0 to 1; None for regression."""
        return self.mean if self.measure == "accuracy" else None

    @property
    def mse(self) -> float | None:
        """The mean squared error; None for classification."""
        return self.mean if self.measure == "mse" else None

    def better_than(self, mean: float) -> bool:
        """Returns whether this beats another mean of the same measure. Everything beats nan."""
        if math.isnan(mean):
            return True
        return self.mean > mean if self.measure == "accuracy" else self.mean < mean

    def to_dict(self) -> dict[str, Any]:
        """Returns every field as plain values. The mean's key is the measure's name.

        Numbers that are not finite become None in the mean, interval and loss, because JSON has none of them.
        """
        fields = dataclasses.asdict(self)
        for name in ("mean", "interval", "loss"):
            fields[name] = fields[name] if math.isfinite(fields[name]) else None
        fields["per_episode"] = [value if math.isfinite(value) else None for value in self.per_episode]
        return {fields.pop("measure"): fields.pop("mean"), **fields}

    def __str__(self) -> str:
        value = f"{100 * self.mean:.2f} +- {100 * self.interval:.2f} %"
        if self.measure == "mse":
            value = f"{self.mean:.4f} +- {self.interval:.4f} mean squared error"
        policy = f", {self.batch_norm} batch norm" if self.batch_norm else ""
        task = f"{self.ways}-way {self.shots}-shot" if self.measure == "accuracy" else f"{self.shots}-shot"
        together = ", transductive" * self.transductive
        proportions = f", queries by Dirichlet({self.dirichlet:g})" if self.dirichlet is not None else ""
        told = f"{value} ({self.episodes} episodes, {task}{proportions}{policy}{together}, {self.split})"
        if not self.not_finite:
            return told
        counted = ", which count as wrong" if self.measure == "accuracy" else ""
        return f"{told}; {self.not_finite} of the episodes diverged, to scores that are not finite{counted}"


def evaluate(
    algorithm: Algorithm,
    split: TaskSplit,
    *,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    episodes: int = 600,
    seed: int = 0,
    batch_norm: str | None = None,
    engine: str | engines.Choice = "auto",
    device: torch.device | str | None = None,
    progress: bool = False,
    dirichlet: float | None = None,
    processes: engines.Processes | None = None,
) -> Evaluation:
    """Adapts to `episodes` tasks of a split and returns the results on their queries.

    Episode i depends on `seed` and i alone. Episodes run in batches, without a graph, so that memory does not grow with
    their number. The algorithm runs in eval mode. Its parameters, buffers, modes and device stay as they were, and so
    does the global RNG.

    Args:
        algorithm: the algorithm to evaluate.
        split: a split of a data set, such as `data.test`, or your own (`datasets.splits.contract.TaskSplit`).
        ways, shots, queries: classes per task; support and query examples per class.
        episodes: number of tasks.
        seed: decides which tasks are drawn.
        batch_norm: a policy (`transductive`, `support`, `running`) in place of the algorithm's own.
        engine: how tasks are run: a name, or a result of `engines.choose`. `"auto"` takes `engines.usual` without
            measuring, so that the same evaluation always runs in the same way.
        device: the device to compute on; by default the algorithm's.
        progress: show a progress bar if stderr is a terminal.
        dirichlet: draw the class proportions of an episode's `ways * queries` queries from Dirichlet(dirichlet).
            Veilleux et al. ("Realistic Evaluation of Transductive Few-Shot Learning", NeurIPS 2021) do so with 2. By
            default every class has `queries`. Classes and support sets are the same either way.
        processes: share the episodes with these, all of which call this (`engines.Processes.current()`); each gets the
            figures of all episodes, those of one process.

    Raises:
        InputError: a count is below 1; the split has fewer classes, or the model fewer outputs, than `ways`; the model
            does not take the examples; the policy or device does not exist; unbalanced queries are asked of a split
            that has no classes, or that has a class with fewer than `shots + 2 * queries` examples.
    """
    check_counts(ways=ways, shots=shots, queries=queries, episodes=episodes)
    processes = processes or engines.Processes()
    check_algorithm(algorithm, "evaluate")
    check_split(split, "evaluate")
    split.check(ways, shots, queries)
    _check_dirichlet(split, dirichlet)
    algorithm = _on_device(_with_policy(algorithm, batch_norm), device)
    algorithm, split = _embedded_once(algorithm, split, ways, episodes * ways * (shots + queries))
    place, dtype = device_of(algorithm), dtype_of(algorithm)

    def some(indices: range) -> Episode:
        generators = [stream(seed, "evaluation", index) for index in indices]
        return in_dtype(_drawn(split, (ways, shots, queries), generators, place, dirichlet), dtype)

    first = some(range(1))
    check_task(algorithm, first.query_x[0], first.query_y[0], ways)
    measure = "mse" if first.query_y.is_floating_point() else "accuracy"
    table = torch.zeros(3, episodes, dtype=torch.float64, device=place)  # losses, what is measured, whether it diverged
    with kept_modes(algorithm), torch.no_grad(), _counted(episodes, progress and processes.leads, split.name) as bar:
        algorithm.eval()
        choice = _chosen(algorithm, engine, first)
        for start in range(BATCH * processes.rank, episodes, BATCH * processes.size):
            batch = some(range(start, min(start + BATCH, episodes)))
            with default_draws(seed, "evaluation draws", start, device_of(algorithm)), of_ways(ways):
                scores = algorithm.at_once(batch) if engine == "auto" else None
                scores = choice.predict(algorithm, batch) if scores is None else scores
            table[:, start : start + BATCH] = _measure(algorithm, scores, batch.query_y, ways)
            bar.update(min(len(scores) * processes.size, episodes - bar.n))
            del batch, scores  # before the next ones are made
    losses, measured, odd = processes.filled(table).tolist()
    return Evaluation(
        measure=measure,
        mean=mean_of(measured),
        interval=half_width(measured),
        loss=mean_of(losses),
        per_episode=measured,
        ways=ways,
        shots=shots,
        queries=queries,
        episodes=episodes,
        seed=seed,
        batch_norm=algorithm.batch_norm,
        split=split.name,
        transductive=algorithm.transductive,
        dirichlet=dirichlet,
        not_finite=int(sum(odd)),
    )


def mean_of(values: list[float]) -> float:
    """The mean, whatever the values: infinities of both signs and sums beyond the largest float too."""
    try:
        return statistics.fmean(values)
    except (OverflowError, ValueError):
        return statistics.mean(values)


def half_width(values: list[float]) -> float:
    """Returns half of the 95% interval of a mean: 1.96 s / sqrt(n), with the sample standard deviation s.

    It is nan for fewer than two values, or if a value is not finite.
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    try:
        return 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    except OverflowError:  # the variance of values beyond 1e154 is no float
        return math.inf


def _drawn(
    split: TaskSplit,
    task: tuple[int, int, int],
    generators: Sequence[torch.Generator],
    device: torch.device,
    dirichlet: float | None,
) -> Episode:
    """Returns one episode per generator. Each is the same as if it were drawn alone."""
    more: dict[str, Any] = {"device": device} | ({} if dirichlet is None else {"dirichlet": dirichlet})
    if isinstance(split, Split):  # it gathers the images of all episodes at once
        return split.episodes(*task, meta_batch=len(generators), generator=generators, **more)
    return stack(unstack(split.episodes(*task, meta_batch=1, generator=each, **more))[0] for each in generators)


def accuracy(scores: Tensor, targets: Tensor, ways: int) -> Tensor:
    """Returns the fraction of right answers `[...]`, for scores `[..., Q, classes]` and targets `[..., Q]`.

    A task with fewer classes than the model has outputs uses the first ones. A query whose largest score is not finite
    (NaN, say) has no answer, and counts as wrong.

    Raises:
        InputError: the model has fewer outputs than `ways`.
    """
    if scores.shape[-1] < ways:
        raise InputError(
            f"{ways} ways were asked for, and the model gives {scores.shape[-1]} scores; make it with ways={ways}, "
            f"or ask for at most {scores.shape[-1]}."
        )
    scores = scores[..., :ways]
    return ((scores.argmax(-1) == targets) & scores.amax(-1).isfinite()).double().mean(-1)


def _measure(algorithm: Algorithm, scores: Tensor, targets: Tensor, ways: int) -> Tensor:
    """Losses, accuracies or squared errors, and whether scores are not finite, of T episodes: `[3, T]`, in float64."""
    regression = targets.is_floating_point()
    if regression:
        values, best = (scores.reshape(targets.shape) - targets).double().square().flatten(1).mean(1), scores.flatten(1)
    else:
        values, scores = accuracy(scores, targets, ways), scores[..., :ways]
        best = scores.amax(-1)  # NaN if any is; a class that cannot be may have the score -inf
    losses = _losses(algorithm.criterion, scores, targets)
    return torch.stack([losses, values, (~best.isfinite()).any(1).double()])


def _losses(criterion: Criterion, scores: Tensor, targets: Tensor) -> Tensor:
    """Returns the losses of T episodes `[T]`, in float64; of cross-entropies, all at once."""
    if criterion is default_criterion and not targets.is_floating_point():
        return default_losses(scores.double(), targets)
    return torch.stack([criterion(*task).double() for task in zip(scores, targets, strict=True)])


def _chosen(algorithm: Algorithm, engine: str | engines.Choice, episode: Episode) -> engines.Choice:
    if isinstance(engine, engines.Choice):
        return engine
    return engines.usual(algorithm, episode) if engine == "auto" else engines.choose(algorithm, episode, engine)


def _with_policy(algorithm: Algorithm, batch_norm: str | None) -> Algorithm:
    if batch_norm is None:
        return algorithm
    if algorithm.batch_norm is None:
        raise InputError(f"{type(algorithm).__name__} has no batch-norm policy; leave batch_norm='{batch_norm}' out.")
    other = copy.copy(algorithm)  # a shallow copy, which shares the model; only its policy differs
    other.batch_norm = batch_norm
    other.check()
    return other


def _embedded_once(algorithm: Algorithm, split: TaskSplit, ways: int, examples: int) -> tuple[Algorithm, TaskSplit]:
    """Returns a head and a split of embeddings that give the same scores, or the algorithm and split themselves.

    Each image is then embedded only once. This needs a frozen network, and saves time if the episodes would use more
    images than the split has.
    """
    found = algorithm.on_embeddings()
    if found is None:
        return algorithm, split
    if not isinstance(split, Split) or split.rotations not in ("none", "classes") or len(split) > examples:
        return algorithm, split
    example, label = split[0]
    check_task(algorithm, example[None], torch.tensor([label]), ways)
    embed, head = found
    return head, embedded_by(algorithm, embed, split)


def _on_device(algorithm: Algorithm, device: torch.device | str | None) -> Algorithm:
    if device is None or (found := find_device(device)) == device_of(algorithm):
        return algorithm
    return copy.deepcopy(algorithm).to(found)


def _check_dirichlet(split: TaskSplit, dirichlet: float | None) -> None:
    if dirichlet is None:
        return
    check_rate(dirichlet=dirichlet)
    if not isinstance(split, LabelledSplit):
        raise InputError(
            f"{split.name} cannot draw unbalanced queries, as it has no classes to draw them by; "
            f"leave dirichlet={dirichlet:g} out."
        )


def _counted(episodes: int, progress: bool, name: str) -> Any:
    from tqdm import tqdm

    return tqdm(total=episodes, desc=f"evaluate {name}", unit="episode", disable=None if progress else True)
