"""Checks of an algorithm for the trainer, the evaluator, `adapt` and the engines."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .. import engines, models
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..episodes import Episode, unstack
from ..errors import InputError
from ..options import options_of
from ..runs.storage import flatten
from ..seeds import kept_random
from .comparing import close, same, snapshot

WAYS = 3
SHAPE = (1, 14, 14)
Make = Callable[[nn.Module], Algorithm]


def small_network(ways: int = WAYS) -> nn.Module:
    """Returns a small convolutional network with batch norm for images `[1, 14, 14]`, for the checks of algorithms."""
    network: nn.Module = models.create("conv4", ways=ways, hidden=6, image_size=SHAPE[-1], seed=1)
    return network


def meta_batch(tasks: int, ways: int = WAYS, shots: int = 2, queries: int = 3, dtype: Any = torch.float64) -> Episode:
    """Returns T episodes of noise images `[T, N, 1, 14, 14]`, always the same for the same arguments."""
    generator = torch.Generator().manual_seed(0)
    y = [torch.arange(ways).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.rand(tasks, ways * n, *SHAPE, generator=generator, dtype=dtype) for n in (shots, queries)]
    return Episode(x[0], y[0], x[1], y[1])


def check_algorithm(make: Make, *, vectorises: bool = True) -> None:
    """Checks everything that the trainer, the evaluator, `adapt` and the engines need from a classifying algorithm.

    Args:
        make: `make(model) -> Algorithm`, such as the class itself.
        vectorises: whether the algorithm must also run under `vmap`; otherwise only `engine="loop"` can run it.

    Raises:
        AssertionError: the first check that fails.
    """
    for check in ALGORITHM_CHECKS:
        if vectorises or check is not vmap_gives_what_the_loop_gives:
            with kept_random(torch.device("cpu")):
                check(make)


def scores_have_a_column_for_every_class(make: Make) -> None:
    """Checks the shape of the scores for support sets of several sizes."""
    for ways, shots, queries in ((2, 1, 1), (3, 2, 4), (5, 5, 2)):
        algorithm, [task] = _made(make, ways), unstack(meta_batch(1, ways, shots, queries))
        scores = _scores(algorithm, task)
        assert scores.shape == (ways * queries, ways), (
            f"predict gives scores of shape {list(scores.shape)} for {ways * queries} queries of {ways} classes; they "
            f"must be {[ways * queries, ways]}."
        )
        assert scores.isfinite().all(), f"predict gives scores that are not finite, {ways}-way {shots}-shot."


def adapting_changes_nothing(make: Make) -> None:
    """Checks that `adapt` leaves parameters, buffers, modes, gradients, attributes and the global RNG alone."""
    for training in (True, False):
        algorithm, [task] = _made(make).train(training), unstack(meta_batch(1))
        for parameter in list(algorithm.model.parameters())[:1]:  # only some are trainable, to check that this stays so
            parameter.requires_grad_(False)
        before = snapshot(algorithm)
        state = algorithm.adapt(task.support_x, task.support_y)
        first = algorithm.predict(state, task.query_x)
        same(before, snapshot(algorithm), "adapt or predict")
        again = algorithm.predict(state, task.query_x)
        assert torch.equal(first, again), "predict changes the state that it is given: twice the same is not the same."


def tasks_stay_apart(make: Make) -> None:
    """Checks that one task's state does not affect another task, and depends on its own task."""
    algorithm, tasks = _made(make), unstack(meta_batch(2))
    alone = [_scores(algorithm, task) for task in tasks]
    states = [algorithm.adapt(task.support_x, task.support_y) for task in tasks]
    together = [algorithm.predict(state, task.query_x) for state, task in zip(states, tasks, strict=True)]
    assert all(map(torch.equal, alone, together)), (
        "The scores of a task change where another was adapted to in between; return the state, keep none on self."
    )
    assert not torch.equal(*alone), "Two tasks get the same scores: adapt or predict does not look at its examples."


def adapts_without_gradients(make: Make) -> None:
    """Checks that the scores are the same inside `no_grad` and `inference_mode`, which evaluation uses."""
    algorithm, [task] = _made(make).eval(), unstack(meta_batch(1))
    expected = _scores(algorithm, task).detach()
    for guard in (torch.no_grad, torch.inference_mode):
        with guard():
            scores = _scores(algorithm, task)
        assert not scores.requires_grad, f"Inside {guard.__name__} the scores have a graph."
        close(scores, expected, f"Inside {guard.__name__} the scores are others")


def every_parameter_is_trained(make: Make) -> None:
    """Checks that the loss gives each parameter a finite gradient, in float32 and float64."""
    for dtype in (torch.float32, torch.float64):
        algorithm = _made(make, dtype=dtype).train()
        losses, scores = engines.meta_backward(algorithm, meta_batch(2, dtype=dtype), "loop")
        assert losses.shape == (2,) and losses.isfinite().all(), f"loss gives {losses.tolist()} for two episodes."
        assert losses.dtype == dtype, f"A model in {dtype} has a loss in {losses.dtype}: take the dtype of the model's."
        assert scores.shape == (2, 3 * WAYS, WAYS), f"loss gives scores of shape {list(scores.shape)} for two episodes."
        named = dict(algorithm.named_parameters())
        without = [name for name, p in named.items() if p.grad is None or not p.grad.isfinite().all()]
        assert not without, f"No finite gradient reaches {', '.join(without)}; what is not trained is no nn.Parameter."
        # A convolution's bias before batch norm with batch statistics has a gradient of zero in exact arithmetic.
        zero = [name for name, p in named.items() if p.grad is not None and not p.grad.any()]
        assert all(name.endswith("bias") for name in zero), f"The gradient of {', '.join(zero)} is zero."


def the_meta_gradient_is_the_mean_over_tasks(make: Make) -> None:
    """Checks that `loss` without an engine gives the same mean gradient as the engine."""
    algorithm, batch = _made(make).train(), meta_batch(3)
    engines.meta_backward(algorithm, batch, "loop")
    together = _gradients(algorithm)
    algorithm.zero_grad()
    for task in unstack(batch):
        (algorithm.loss(task)[0] / 3).backward()
    for name, expected in together.items():
        close(_gradients(algorithm)[name], expected, f"The meta-gradient of {name} is not the mean over the tasks")


def a_few_updates_lower_the_query_loss(make: Make) -> None:
    """Checks that a few meta-updates lower the query loss on one fixed meta-batch."""
    algorithm, batch = _made(make).train(), meta_batch(2)
    optimizer = torch.optim.Adam(algorithm.parameters(), lr=3e-3)
    history = []
    for _ in range(12):
        optimizer.zero_grad()
        _, scores = engines.meta_backward(algorithm, batch, "loop")
        history.append(nn.functional.cross_entropy(scores.flatten(0, 1), batch.query_y.flatten()).item())
        optimizer.step()
    assert min(history[-3:]) < history[0], (
        f"Twelve updates on one meta-batch leave its query loss at {history[-1]:.3f}, from {history[0]:.3f}: what is "
        "trained does not help with the queries."
    )


def vmap_gives_what_the_loop_gives(make: Make) -> None:
    """Checks losses, scores and gradients of `engine="vmap"`, with all episodes at once and in chunks."""
    algorithm, batch = _made(make).train(), meta_batch(3)
    expected = _run(algorithm, batch, "loop")
    for chunk in (None, 2):
        try:
            found = _run(algorithm, batch, "vmap", chunk=chunk)
        except InputError as error:
            raise AssertionError(f"{error} Or check it with vectorises=False.") from error
        for name, one in found.items():
            close(one, expected[name], f"vmap and the loop differ in {name}")


def options_are_replaced_or_refused(make: Make) -> None:
    """Checks that every option is an attribute that can be replaced, or is listed in `fixed`."""
    algorithm = _made(make)
    for option in options_of(type(algorithm)).parameters:
        known = option == "model" or option in algorithm.fixed or hasattr(algorithm, option)
        assert known, (
            f"The option {option} of {type(algorithm).__name__} is no attribute of that name; keep it as "
            f"self.{option}, or list it in `fixed` if it cannot be replaced later."
        )
        if option != "model" and option not in algorithm.fixed:
            with_options(copy.copy(algorithm), **{option: getattr(algorithm, option)})


def copies_and_states_can_be_kept(make: Make) -> None:
    """Checks deep copies (for workers), state dicts (for checkpoints) and saving a state (for learners)."""
    algorithm, [task] = _made(make).eval(), unstack(meta_batch(1))
    expected = _scores(algorithm, task).detach()
    close(_scores(copy.deepcopy(algorithm), task).detach(), expected, "A deep copy gives other scores")
    other = _made(make).eval()
    other.load_state_dict(algorithm.state_dict())
    close(_scores(other, task).detach(), expected, "Filled with the state dict, a new object gives other scores")
    with torch.no_grad():
        state = algorithm.adapt(task.support_x, task.support_y)
    try:
        flatten(state)
    except InputError as error:
        raise AssertionError(f"A learner cannot be saved with this state: {error}") from error


ALGORITHM_CHECKS: tuple[Callable[[Make], None], ...] = (
    scores_have_a_column_for_every_class,
    adapting_changes_nothing,
    tasks_stay_apart,
    adapts_without_gradients,
    every_parameter_is_trained,
    the_meta_gradient_is_the_mean_over_tasks,
    a_few_updates_lower_the_query_loss,
    vmap_gives_what_the_loop_gives,
    options_are_replaced_or_refused,
    copies_and_states_can_be_kept,
)


def _made(make: Make, ways: int = WAYS, dtype: torch.dtype = torch.float64) -> Algorithm:
    algorithm = make(small_network(ways).to(dtype))
    assert isinstance(algorithm, Algorithm), f"{type(algorithm).__name__} does not derive from fewshot_kit.Algorithm."
    return algorithm


def _scores(algorithm: Algorithm, task: Episode) -> Tensor:
    return algorithm.predict(algorithm.adapt(task.support_x, task.support_y), task.query_x)


def _run(algorithm: Algorithm, batch: Episode, engine: str, **options: Any) -> dict[str, Tensor]:
    algorithm.zero_grad()
    losses, scores = engines.meta_backward(algorithm, batch, engine, **options)
    return {"the losses": losses, "the scores": scores, **_gradients(algorithm)}


def _gradients(algorithm: Algorithm) -> dict[str, Tensor]:
    return {f"the gradient of {n}": p.grad.clone() for n, p in algorithm.named_parameters() if p.grad is not None}
