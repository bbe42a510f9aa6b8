"""One task: a support set in, a predictor out."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import algorithms, automatic, models
from .algorithms import Algorithm, GradientBased, Metric
from .algorithms.modes import usual_policy
from .checkpoints import flatten, load, read_config
from .checks import check_task, device_of
from .datasets import Transform
from .episodes import relabel
from .errors import InputError, MisfitWarning
from .inputs import read_support
from .learner import Learner, batch_of
from .pictures import channels_of
from .recipes import options_of
from .registry import closest
from .seeds import default_draws

__all__ = ["Learner", "adapt", "with_options"]

AUTO = ("head", "batch_norm", "views")  # the options that `auto` takes; any other asks for fine-tuning by hand
LOWER = 3  # times that a rate which was not asked for is divided by ten until the support set is fitted
FITTED = 0.5  # of the way from chance to certainty, on the support set itself


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
        model: a plain `nn.Module`, or its name (`"timm/..."`); an `Algorithm`; the path of a run folder.
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

    expected = None
    if isinstance(model, Algorithm):
        made = with_options(copy.deepcopy(model), **options).eval()
        check_task(made, x, y, len(classes or ()))
        state, why = _adapted(made, x, y), f"{type(made).__name__}, as it was handed over"
    elif algorithm == "auto" and set(options) <= set(AUTO):
        with torch.no_grad():
            made, state, why, expected = automatic.choose(model, x, y, options)
        _check_finite(made, state)
    else:
        name = "finetune" if algorithm == "auto" else algorithm
        made, state, why = _by_algorithm(model, name, options, x, y, len(classes or ()))
    learner = Learner(made, state, classes, why=why, transform=transform, support=(x, y), expected=expected)
    _warn_of_misfit(learner, x, y)
    return learner


def _by_name(name: str | Path) -> tuple[nn.Module | Algorithm, Transform | None]:
    """A run folder's algorithm and transform; or the network that a registry has under that name."""
    if isinstance(name, str) and not Path(name).exists() and models.knows(name):
        made = models.create(name)
        return made, models.images_of(made)
    recorded = (read_config(name).get("data") or {}).get("transform")
    return load(name), Transform(**recorded) if recorded else None


def _targets(labels: list[Hashable] | Tensor) -> tuple[Tensor, list[Hashable] | None]:
    """Class indices and the classes, or float targets and None."""
    if isinstance(labels, Tensor) and labels.is_floating_point():
        return labels, None
    return relabel(labels)


def _check(x: Tensor, y: Tensor, classes: list[Hashable] | None) -> None:
    if len(x) != len(y):
        raise InputError(f"{len(x)} examples came with {len(y)} labels; give one label for each example.")
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
    searching = isinstance(made, GradientBased) and "lr" not in options and "lr" in options_of(type(made)).parameters
    if not searching:
        return made, _adapted(made, x, y), why
    usual = made.lr
    tries: list[tuple[float, Algorithm, Any]] = []
    for power in range(LOWER + 1):
        one = made if power == 0 else _make(name, model, options | {"lr": usual / 10**power})
        state = _adapted(one, x, y, checked=False)
        fit = _fit(one, state, x, y)
        tries.append((fit, one, state))
        if fit >= (FITTED if ways else 0.0):
            break
    fit, made, state = max(tries, key=lambda each: each[0])
    _check_finite(made, state)
    if len(tries) > 1:
        why += f"; at lr={made.lr:g}, since its support set was not fitted at the usual lr={usual:g}"
    return made, state, why


def _make(name: str, model: nn.Module, options: dict[str, Any]) -> Any:
    factory = algorithms.get(name)
    if isinstance(factory, type) and issubclass(factory, GradientBased | Metric) and "batch_norm" not in options:
        options = {"batch_norm": usual_policy(model), **options}
    with default_draws(0, "adapt"):  # an algorithm may have modules of its own
        return algorithms.create(name, model=copy.deepcopy(model), **options).eval()


def _adapted(algorithm: Algorithm, x: Tensor, y: Tensor, checked: bool = True) -> Any:
    with torch.no_grad():
        state = algorithm.adapt(x, y)
    if checked:
        _check_finite(algorithm, state)
    return state


def _check_finite(algorithm: Algorithm, state: Any) -> None:
    """Raises `InputError` where adapting has led to NaN or infinity."""
    bad = [
        name for name, value in flatten(state)[0].items() if value.is_floating_point() and not value.isfinite().all()
    ]
    if not bad:
        return
    before = [name for name, p in algorithm.named_parameters() if p.is_floating_point() and not p.isfinite().all()]
    if before:
        raise InputError(f"The model's own '{before[0]}' is not finite before any adapting; check its weights.")
    lr = f" (lr is {algorithm.lr:g})" if isinstance(algorithm, GradientBased) else ""
    raise InputError(
        f"Adapting with {type(algorithm).__name__} has led to values that are not finite in '{bad[0]}'{lr}; lower lr, "
        "adapt in float32, or leave algorithm= out."
    )


def _fit(algorithm: Algorithm, state: Any, x: Tensor, y: Tensor) -> float:
    """How well a state fits its own support set, at most 1: 0 is chance, or the mean of the targets."""
    with torch.no_grad():
        scores = algorithm.predict(state, x)
    if not scores.isfinite().all():
        return -math.inf
    if y.is_floating_point():
        spread = (y - y.mean(0)).square().mean()
        return float(1 - (scores.reshape(y.shape) - y).square().mean() / spread) if spread > 0 else 1.0
    ways = int(y.max()) + 1
    return (float((scores[:, :ways].argmax(-1) == y).double().mean()) * ways - 1) / (ways - 1)


def _warn_of_misfit(learner: Learner, x: Tensor, y: Tensor) -> None:
    """Say so where a learner does not even know the examples that it was given."""
    fit = _fit(learner.algorithm, learner.state, x, y)
    if fit == -math.inf:
        raise InputError(
            f"The scores of {type(learner.algorithm).__name__} on its own support set are not finite; lower lr, adapt "
            "in float32, or leave algorithm= out."
        )
    if fit >= (FITTED if learner.classes else 0.0):
        return
    lr, steps = (getattr(learner.algorithm, name, None) for name in ("lr", "steps"))
    how = (
        f" after {steps} step{'s' * (steps != 1)} at lr={lr:g}"
        if isinstance(lr, float) and isinstance(steps, int)
        else ""
    )
    if learner.classes:
        right = round((fit * (len(learner.classes) - 1) + 1) / len(learner.classes) * len(x))
        said = f"{right} of its own {len(x)} support examples right (chance is {len(x) / len(learner.classes):.0f})"
    else:
        said = f"its own {len(x)} targets worse than their mean does"
    fix = "take more steps or another lr" if how else "meta-train it first"
    warnings.warn(
        f"{type(learner.algorithm).__name__} gets {said}{how}: expect no more of new ones; {fix}, or adapt the plain "
        "model without algorithm=, which chooses by itself.",
        MisfitWarning,
        stacklevel=4,  # of adapt's caller, past its decorator
    )


def with_options(algorithm: Algorithm, **options: Any) -> Algorithm:
    """Replace options of an algorithm, in place: `with_options(maml, steps=10)`.

    Raises:
        InputError: an option that the algorithm does not have; the nearest one is named.
    """
    known = [name for name in options_of(type(algorithm)).parameters if name != "model"]
    for name, value in options.items():
        if name not in known or not hasattr(algorithm, name):
            raise InputError(
                f"{type(algorithm).__name__} has no option '{name}'.{closest(name, known)} It has {', '.join(known)}."
            )
        setattr(algorithm, name, value)
    if isinstance(algorithm, GradientBased | Metric):
        algorithm.check()
    said = {name: value for name, value in options.items() if name not in algorithm.shaped_by}
    if algorithm.recipe is not None and said:
        algorithm.recipe = algorithm.recipe | {"options": algorithm.recipe["options"] | said}
    return algorithm
