"""What is wrong with a meta-batch or a model that an algorithm cannot run, in one sentence."""

from __future__ import annotations

import copy
import warnings
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
        raise InputError(f"The tensors of a meta-batch have these numbers of tasks: {sizes}; give each as many.")
    if episodes.query_y.dim() > 1 and not episodes.query_y.shape[1]:
        raise InputError("The tasks have no queries, and so no loss; give at least one for each.")


def _kind(given: Any) -> str:
    return "None" if given is None else f"of type {type(given).__name__}"


def check_fit(algorithm: Algorithm, episodes: Episode) -> None:
    """Raises `InputError` for what does not fit in a meta-batch that an engine has failed on.

    It raises nothing if the algorithm's own code runs the first episode: then the engine is to blame.
    """
    place = device_of(algorithm)
    if place.type == "meta" or _runs(algorithm, unstack(episodes)[0]):
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
    if query.device != place:
        name = type(algorithm).__name__
        raise InputError(f"The meta-batch is on '{query.device}' and {name} on '{place}'; bring both to one device.")
    _check_classes(algorithm, episodes)


def _check_classes(algorithm: Algorithm, episodes: Episode) -> None:
    shown, asked = episodes.support_y, episodes.query_y
    learns_classes = algorithm.classes is not None  # from queries alone
    if not shown.shape[1] and not learns_classes:
        raise InputError("The tasks have no support examples; give at least one of each class.")
    if shown.is_floating_point() != asked.is_floating_point():
        raise InputError(
            f"support_y is {shown.dtype} and query_y {asked.dtype}; give both as int64, or both as floats."
        )
    if learns_classes:
        return
    ways = 0
    if not asked.is_floating_point():
        if int(asked.min()) < 0:
            raise InputError(f"query_y holds the class index {int(asked.min())}; they count from 0.")
        ways = int(max(asked.max(), shown.max())) + 1
    check_task(algorithm, episodes.query_x[0], asked[0], ways)
    highest = int(asked.max()), int(shown.max())
    if highest[0] > highest[1] and not asked.is_floating_point():
        raise InputError(f"query_y holds the class index {highest[0]}, and support_y none above {highest[1]}.")


def _runs(algorithm: Algorithm, episode: Episode) -> bool:
    probe = copy.deepcopy(algorithm)
    try:
        with kept_random(device_of(algorithm)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probe.loss(episode)
            if algorithm.classes is None:
                probe.predict(probe.adapt(episode.support_x, episode.support_y), episode.query_x)
    except FAILURES:
        return False
    return True
