"""`adapt`: takes a model and a support set, and returns a predictor for the task."""

from __future__ import annotations

import copy
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import algorithms, models
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..algorithms.bases.task_check import check_task
from ..datasets import Transform
from ..episodes import relabel
from ..errors import InputError
from ..modules.batch_norm import usual_policy
from ..modules.kinds import check_module, check_values
from ..modules.place import device_of
from ..options import options_of
from ..runs.checkpoints import load, read_run
from ..runs.recorded import from_recorded
from ..seeds import default_draws
from . import automatic
from .inputs import read_support
from .learner import Learner, batch_of
from .misfit import DESCENDED, FITTED, check_finite, fit, warn_of_misfit
from .pictures import channels_of

__all__ = ["Learner", "adapt"]

AUTO = ("head", "batch_norm", "views")  # the options of `auto`; any other option means fine-tuning
LOWER = 3  # how often the usual rate is divided by ten, until the support set is fitted


@torch.inference_mode(False)  # inside it, copies of parameters could not be differentiated
def adapt(
    model: nn.Module | Algorithm | str | Path,
    support: Any,
    algorithm: str = "auto",
    *,
    transform: Transform | None = None,
    **options: Any,
) -> Learner:
    """Adapts any model to a new task.

    It leaves its arguments alone: parameters, buffers, modes and `requires_grad`. It leaves the global RNG alone too.

    Args:
        model: a plain `nn.Module`; the name of a network with weights (`"timm/..."`), which its library downloads once;
            an `Algorithm`; the path of a run folder; or the path of a saved learner, which then learns another task.
        support: examples and labels, `(x, y)`; a `Dataset` or `DataLoader` of them; or a folder of class folders.
            Examples are tensors or arrays `[S, ...]`, Pillow images or paths of image files (`inputs.read_support`).
            Labels are any ints or strings. Float targets mean regression.
        algorithm: the algorithm's name, for a plain module. `"auto"` chooses by held-out support examples
            (`automatic.choose`). Its only options are `head`, `batch_norm` and `views`; any other option, such as
            `steps`, makes it `"finetune"`. Algorithms that keep the model's head use its first outputs if the task has
            fewer classes than the model has outputs.
        transform: turns images into the model's inputs; by default the network's own (`models.images_of`), or the
            run's.
        options: the algorithm's options (`steps=5, lr=0.5`). They replace the options of an `Algorithm` or a run.
            Without `lr`, a plain module gets lower rates if it does not fit the support set at the algorithm's usual
            rate. Without `batch_norm`, a plain module's batch norm uses the stored statistics, or the support set's if
            the stored ones were never updated.

    Returns:
        The learner. Its `why` says which algorithm was taken and why. A warning is given if the learner does not fit
        its own support set.

    Raises:
        InputError: no model, or one without values; labels that do not match the examples, NaN, one class only, more
            classes than the model has outputs, targets or examples that the algorithm or the model cannot take, an
            option that does not exist, a state or scores that are not finite.
    """
    if isinstance(model, str | Path):
        model, recorded = _by_name(model)
        transform = transform or recorded
    if isinstance(model, Algorithm):
        if algorithm != "auto":
            raise InputError(
                f"This is a {type(model).__name__} already, so algorithm='{algorithm}' cannot apply; "
                "pass its .model to adapt that otherwise."
            )
        plain = model.model
    else:
        plain = model
    check_module(plain)
    check_values(model)
    transform = transform or models.images_of(plain)
    x, labels = read_support(support, transform, channels_of(plain))
    y, classes = _targets(labels)
    x, y = batch_of(plain, x), y.to(device_of(plain))
    if y.is_floating_point():
        y = y.to(x.dtype) if x.is_floating_point() else y
    _check(x, y, classes)

    expected, wanted = None, FITTED
    if isinstance(model, Algorithm):
        made = with_options(copy.deepcopy(model), **options).eval()
        check_task(made, x, y, len(classes or ()))
        state, why = _adapted(made, x, y), f"{type(made).__name__}, as it was handed over"
    elif algorithm == "auto" and set(options) <= set(AUTO):
        with torch.no_grad():
            made, state, why, expected = automatic.choose(model, x, y, options)
        check_finite(made, state)
    else:
        name = "finetune" if algorithm == "auto" else algorithm
        made, state, why = _by_algorithm(model, name, options, x, y, len(classes or ()))
        wanted = DESCENDED if made.descends else FITTED
    learner = Learner(made, state, classes, why=why, transform=transform, support=(x, y), expected=expected)
    warn_of_misfit(learner, x, y, wanted)
    return learner


def _by_name(name: str | Path) -> tuple[nn.Module | Algorithm, Transform | None]:
    """Returns the algorithm and transform of a run folder or a saved learner, or the network of that name."""
    if Path(name).is_file():
        learner = Learner.load(name)
        return learner.algorithm, learner.transform
    if isinstance(name, str) and not Path(name).exists() and models.knows(name):
        if "/" not in models.full_name(name):
            raise InputError(
                f"The network '{name}' comes without weights, so its name alone cannot be adapted; pass the network "
                f'itself, as models.create("{name}", ...), or a run folder.'
            )
        with default_draws(0, "adapt"):  # a head for other classes has random weights
            made = models.create(name, pretrained=True)
        return made, models.images_of(made)
    recorded = (read_run(name).get("data") or {}).get("transform")
    return load(name), from_recorded(Transform, recorded, Path(name) / "config.yaml") if recorded else None


def _targets(labels: list[Hashable] | Tensor) -> tuple[Tensor, list[Hashable] | None]:
    """Returns class indices and the classes, or float targets and None."""
    if isinstance(labels, Tensor) and labels.is_floating_point():
        return labels, None
    return relabel(labels)


def _check(x: Tensor, y: Tensor, classes: list[Hashable] | None) -> None:
    if len(x) == 0:
        raise InputError("The support set is empty; give at least one labelled example.")
    if classes is not None and len(classes) == 1:
        raise InputError(
            f"All {len(x)} support examples are of one class, {classes[0]!r}; give examples of two or more, or "
            "float targets for a regression."
        )
    for what, values in (("examples", x), ("targets", y)):
        if values.is_floating_point() and not values.isfinite().all():
            bad = (~values.reshape(len(values), -1).isfinite()).any(1).nonzero().flatten().tolist()
            raise InputError(
                f"{len(bad)} of the {len(x)} {what} hold NaN or infinite values (the first is number {bad[0]})."
            )


def _by_algorithm(
    model: nn.Module, name: str, options: dict[str, Any], x: Tensor, y: Tensor, ways: int
) -> tuple[Algorithm, Any, str]:
    """Adapts a plain module with a named algorithm, at lower rates if the usual one does not fit the support set."""
    made = _make(name, model, options)
    check_task(made, x, y, ways)
    why = f"{type(made).__name__}, as asked"
    usual, known = made.lr, options_of(type(made)).parameters
    if usual is None or not made.descends or "lr" in options or "lr" not in known:
        return made, _adapted(made, x, y), why
    tries: list[tuple[float, Algorithm, Any]] = []
    for power in range(LOWER + 1):
        one = made if power == 0 else _make(name, model, options | {"lr": usual / 10**power})
        state = _adapted(one, x, y, checked=False)
        fitted = fit(one, state, x, y)
        tries.append((fitted, one, state))
        if fitted >= (DESCENDED if ways else 0.0):
            break
    _, made, state = max(tries, key=lambda each: each[0])
    check_finite(made, state)
    if made.lr != usual:
        why += f"; at lr={made.lr:g}, since its support set was not fitted at the usual lr={usual:g}"
    elif len(tries) > 1:
        why += f"; no lr from {usual:g} down to {tries[-1][1].lr:g} fits its support set"
    return made, state, why


def _make(name: str, model: nn.Module, options: dict[str, Any]) -> Any:
    factory = algorithms.get(name)
    if "batch_norm" in options_of(factory).parameters and "batch_norm" not in options:
        options = {"batch_norm": usual_policy(model), **options}
    with default_draws(0, "adapt"):  # an algorithm may have modules of its own
        return algorithms.create(name, model=copy.deepcopy(model), **options).eval()


def _adapted(algorithm: Algorithm, x: Tensor, y: Tensor, checked: bool = True) -> Any:
    with torch.no_grad():
        state = algorithm.adapt(x, y)
    if checked:
        check_finite(algorithm, state)
    return state
