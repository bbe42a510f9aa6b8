"""What is wrong with a meta-batch or a model that an algorithm cannot run, in one sentence."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.bases.task_check import check_algorithm, check_task
from ..episodes import Episode, unstack
from ..errors import InputError
from ..modules.place import device_of
from ..seeds import kept_random

FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AttributeError, AssertionError)


def check_given(algorithm: Any, episodes: Any) -> None:
    """Raises `InputError` for what is no algorithm, or no meta-batch of tensors with the same leading T."""
    if not isinstance(algorithm, Algorithm):
        check_algorithm(algorithm, "meta_backward")
    if not isinstance(episodes, Episode):
        raise InputError(
            f"The meta-batch is a {type(episodes).__name__}; give Episode(support_x, support_y, query_x, query_y), "
            "each a tensor with a leading dimension for the tasks."
        )
    for name, given in episodes._asdict().items():
        if not isinstance(given, Tensor):
            raise InputError(f"{name} is {_kind(given)}; give a tensor with a leading dimension for the tasks.")
    tasks = [len(tensor) if tensor.dim() else 0 for tensor in episodes]
    if len(set(tasks)) > 1 or not tasks[0]:
        sizes = ", ".join(f"{name} {count}" for name, count in zip(Episode._fields, tasks, strict=True))
        raise InputError(f"The tensors of a meta-batch have different numbers of tasks: {sizes}; give each as many.")


def _kind(given: Any) -> str:
    return "None" if given is None else f"of type {type(given).__name__}"


def check_fit(algorithm: Algorithm, episodes: Episode) -> None:
    """Raises `InputError` for what does not fit in a meta-batch that an engine has failed on.

    It raises nothing if the algorithm's own code runs the first episode: then the engine is to blame.
    """
    if _runs(algorithm, unstack(episodes)[0]):
        return
    for part in ("support", "query"):
        x, y = (getattr(episodes, f"{part}_{kind}") for kind in "xy")
        if y.dim() == 3 and y.shape[2] == 1 and not y.is_floating_point():
            raise InputError(
                f"{part}_y has shape {list(y.shape)}; give one label for each example, {part}_y.squeeze(2)."
            )
        if x.dim() < 2 or y.dim() < 2 or x.shape[1] != y.shape[1]:
            raise InputError(
                f"{part}_x of shape {list(x.shape)} and {part}_y of shape {list(y.shape)} do not go together; give one "
                "label for each example, [tasks, examples]."
            )
        if not y.is_floating_point() and y.dtype.itemsize < 8:
            raise InputError(f"{part}_y is {y.dtype}; class indices are int64, as {part}_y.long() gives.")
    support, query = episodes.support_x, episodes.query_x
    for what, one, other in (
        ("shape", list(support.shape[2:]), list(query.shape[2:])),
        ("dtype", support.dtype, query.dtype),
        ("device", support.device, query.device),
    ):
        if one != other:
            raise InputError(
                f"The queries have {what} {other} and the support examples {one}; bring both to one {what}."
            )
    y = episodes.query_y
    if y.device.type == "meta":
        return
    ways = 0 if y.is_floating_point() else int(max(y.max(), episodes.support_y.max() if support.shape[1] else 0)) + 1
    if not y.is_floating_point() and int(y.min()) < 0:
        raise InputError(f"query_y holds the class index {int(y.min())}; they count from 0.")
    if algorithm.classes is None:
        check_task(algorithm, query[0], y[0], ways)


def _runs(algorithm: Algorithm, episode: Episode) -> bool:
    probe = copy.deepcopy(algorithm)
    try:
        with kept_random(device_of(algorithm)):
            probe.loss(episode)
            if algorithm.classes is None:
                probe.predict(probe.adapt(episode.support_x, episode.support_y), episode.query_x)
    except FAILURES:
        return False
    return True
