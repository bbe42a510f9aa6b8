"""One task: a support set in, a predictor out."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import algorithms
from .algorithms import Algorithm, GradientBased, Metric
from .algorithms.layers import batch_norms
from .checkpoints import describe, load, rebuild, save_state
from .checks import check_task, device_of, dtype_of
from .episodes import relabel
from .errors import InputError
from .recipes import options_of
from .registry import closest
from .seeds import default_draws

Labels = Sequence[Hashable] | Tensor


class Learner:
    """An adapted predictor of one task, in the caller's own labels.

    Made by `adapt`. It holds copies, so later training of the model does not reach it.

    Args:
        algorithm: what adapted; in evaluation mode.
        state: what it learned of the task.
        classes: the labels by index; None for regression.
    """

    def __init__(self, algorithm: Algorithm, state: Any, classes: list[Hashable] | None) -> None:
        self.algorithm, self.state, self.classes = algorithm, state, classes

    @torch.no_grad()
    def __call__(self, x: Any) -> Tensor:
        """Examples `[Q, ...]` -> scores `[Q, classes]`, or regression outputs."""
        scores = self.algorithm.predict(self.state, _examples(self.algorithm, x))
        return scores if self.classes is None else scores[:, : len(self.classes)]

    def predict(self, x: Any) -> list[Hashable] | Tensor:
        """Examples `[Q, ...]` -> labels of the kind that `adapt` was given; regression outputs as they are."""
        scores = self(x)
        return scores if self.classes is None else [self.classes[i] for i in scores.argmax(-1).tolist()]

    def predict_proba(self, x: Any) -> Tensor:
        """Examples `[Q, ...]` -> probabilities `[Q, classes]`, in the order of `classes`.

        Raises:
            InputError: the task is a regression.
        """
        if self.classes is None:
            raise InputError("A regression task has no probabilities; call predict(x) for its outputs.")
        return self(x).softmax(-1)

    def save(self, path: str | Path) -> Path:
        """Keep the adapted task in one file, without pickle. Classes must be ints or strings."""
        odd = [c for c in self.classes or [] if isinstance(c, bool) or not isinstance(c, int | str)]
        if odd:
            raise InputError(f"The label {odd[0]!r} is neither an int nor a string, so the learner cannot be saved.")
        meta = {"recipes": describe(self.algorithm), "classes": self.classes}
        save_state(path, self.algorithm, self.state, meta)
        return Path(path)

    @staticmethod
    def load(path: str | Path, *, model: nn.Module | None = None, algorithm: Algorithm | None = None) -> Learner:
        """The learner that `save` wrote.

        Args:
            path: the file.
            model, algorithm: needed where a class of your own, which no registry knows, was adapted.

        Raises:
            InputError: the file is missing, damaged or from a newer version, or the model has to be passed.
        """
        made, state, meta = rebuild(path, model=model, algorithm=algorithm)
        return Learner(made.eval(), state, meta["classes"])


@torch.inference_mode(False)  # inside it, copies of parameters could not be differentiated
def adapt(
    model: nn.Module | Algorithm | str | Path,
    support: tuple[Any, Labels],
    algorithm: str = "finetune",
    **options: Any,
) -> Learner:
    """Adapt any model to a new task.

    Nothing that is given is changed: parameters, buffers, modes, `requires_grad`, the state of the global RNG.

    Args:
        model: a plain `nn.Module`; an `Algorithm`; or the path of a run folder.
        support: examples `[S, ...]` (uint8 images are scaled to [0, 1]) and their `S` labels: any ints or
            strings, or float targets for regression. A task with fewer classes than the model has outputs uses
            the first ones.
        algorithm: for a plain module, the algorithm by name.
        options: the algorithm's (`steps=5, lr=0.5`). For an `Algorithm` or a run they replace its own. Batch norm
            of a plain module uses the stored statistics, as in `model.eval()`, unless `batch_norm=` says otherwise.

    Raises:
        InputError: labels that do not match the examples, NaN, one class only, more classes than the model has
            outputs, targets or examples that the algorithm or the model cannot take, an option that does not exist.
    """
    x, labels = support
    if isinstance(model, str | Path):
        model = load(model)
    if isinstance(model, Algorithm):
        if algorithm != "finetune":
            raise InputError(
                f"This is a {type(model).__name__} already, so algorithm='{algorithm}' cannot apply; "
                "pass its .model to adapt that otherwise."
            )
        made = with_options(copy.deepcopy(model), **options)
    else:
        with default_draws(0, "adapt"):  # an algorithm may have modules of its own
            made = algorithms.create(algorithm, model=copy.deepcopy(model), **_inductive(algorithm, model, options))
    made.eval()
    x = _examples(made, x)
    if len(x) != len(labels):
        raise InputError(f"{len(x)} examples came with {len(labels)} labels; give one label for each example.")
    if len(x) == 0:
        raise InputError("The support set is empty; give at least one labelled example.")
    if isinstance(labels, Tensor) and labels.is_floating_point():
        y, classes = labels.to(x.device, x.dtype), None
    else:
        y, classes = relabel(labels)
        y = y.to(x.device)
        if len(classes) == 1:
            raise InputError(
                f"All {len(x)} support examples are of one class, {classes[0]!r}; give examples of two or more, or "
                "float targets for a regression."
            )
    if x.is_floating_point() and not x.isfinite().all():
        bad = (~x.flatten(1).isfinite()).any(1).nonzero().flatten().tolist()
        raise InputError(
            f"{len(bad)} of the {len(x)} examples hold NaN or infinite values (the first is number {bad[0]})."
        )
    check_task(made, x, y, len(classes or ()))
    with torch.no_grad():
        return Learner(made, made.adapt(x, y), classes)


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


def _inductive(algorithm: str, model: nn.Module, options: dict[str, Any]) -> dict[str, Any]:
    factory = algorithms.get(algorithm)
    layers = batch_norms(model).values()
    stored = bool(layers) and all(layer.running_mean is not None for layer in layers)
    if stored and isinstance(factory, type) and issubclass(factory, GradientBased | Metric):
        return {"batch_norm": "running", **options}
    return options


def _examples(algorithm: Algorithm, x: Any) -> Tensor:
    x = torch.as_tensor(x).to(device_of(algorithm))
    x = x.clone() if x.is_inference() else x
    return x.to(dtype_of(algorithm)) / 255 if x.dtype == torch.uint8 else x
