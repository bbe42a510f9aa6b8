"""One task: a support set in, a predictor out."""

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
from ..modules.place import device_of
from ..options import options_of
from ..runs.checkpoints import load, read_config
from ..seeds import default_draws
from . import automatic
from .inputs import read_support
from .learner import Learner, batch_of
from .misfit import DESCENDED, FITTED, check_finite, fit, warn_of_misfit
from .pictures import channels_of

__all__ = ["Learner", "adapt"]

AUTO = ("head", "batch_norm", "views")  # the options that `auto` takes; any other asks for fine-tuning by hand
LOWER = 3  # times that a rate which was not asked for is divided by ten until the support set is fitted


@torch.inference_mode(False)  # inside it, copies of parameters could not be differentiated
def adapt(
    model: nn.Module | Algorithm | str | Path,
    support: Any,
    algorithm: str = "auto",
    *,
    transform: Transform | None = None,
    **options: Any,
) -> Learner:
    """Adapt any model to a new task.

    Nothing that is given is changed: parameters, buffers, modes, `requires_grad`, the state of the global RNG.

    Args:
        model: a plain `nn.Module`; the name of one with weights (`"timm/..."`: its library's, downloaded once); an
            `Algorithm`; the path of a run folder, or of a saved learner, which then learns another task.
        support: examples and labels, `(x, y)`; a `Dataset` or `DataLoader` of them; or a folder of class folders.
            Examples are tensors or arrays `[S, ...]`, Pillow images or paths of image files (`inputs.read_support`).
            Labels are any ints or strings; float targets mean regression.
        algorithm: for a plain module, the algorithm by name. `"auto"` chooses by held-out support examples
            (`automatic.choose`), and takes the options `head`, `batch_norm` and `views` only; with any other, such as
            `steps`, it is `"finetune"`. A task with fewer classes than the model has outputs uses the first ones, for
            algorithms that keep the model's head.
        transform: how images become what the model sees; by default the network's own (`models.images_of`), or the
            run's.
        options: the algorithm's (`steps=5, lr=0.5`). For an `Algorithm` or a run they replace its own. Without `lr`,
            a plain module whose support set is not fitted at the algorithm's usual rate is tried at lower ones. Batch
            norm of a plain module uses the stored statistics, or the support set's where those were never moved,
            unless `batch_norm=` says otherwise.

    Returns:
        The learner; its `why` says what was taken and why. It warns where it does not fit its own support set.

    Raises:
        InputError: labels that do not match the examples, NaN, one class only, more classes than the model has
            outputs, targets or examples that the algorithm or the model cannot take, an option that does not exist,
            a state or scores that are not finite.
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
    """The algorithm and transform of a run folder or a saved learner; or the network of that name."""
    if Path(name).is_file():
        learner = Learner.load(name)
        return learner.algorithm, learner.transform
    if isinstance(name, str) and not Path(name).exists() and models.knows(name):
        if "/" not in models.full_name(name):
            raise InputError(
                f"The network '{name}' comes without weights, so its name alone cannot be adapted; pass the network "
                f'itself, as models.create("{name}", ...), or a run folder.'
            )
        with default_draws(0, "adapt"):  # a head for other classes is drawn
            made = models.create(name, pretrained=True)
        return made, models.images_of(made)
    recorded = (read_config(name).get("data") or {}).get("transform")
    return load(name), Transform(**recorded) if recorded else None


def _targets(labels: list[Hashable] | Tensor) -> tuple[Tensor, list[Hashable] | None]:
    """Class indices and the classes, or float targets and None."""
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
    """A plain module by a named algorithm, at a lower rate than its usual one where that does not fit."""
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
