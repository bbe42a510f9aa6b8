"""The learner that `adapt` returns: the predictor of one task, in the caller's own labels."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..algorithms import Algorithm
from ..datasets import Transform
from ..errors import InputError, KitError, first_line
from ..modules.batching import VALUES
from ..modules.place import device_of, dtype_of, find_device
from ..runs.checkpoints import describe, rebuild, save_state
from ..runs.recorded import from_recorded
from .expectation import Expected, expectation
from .inputs import read_examples
from .labels import read_labels
from .pictures import channels_of


class Learner:
    """An adapted predictor of one task, in the caller's own labels.

    `adapt` makes it. It holds copies, so later training of the model does not change it.

    Args:
        algorithm: the algorithm that adapted, in evaluation mode.
        state: the result of its `adapt` on the support set.
        classes: the labels by index; None for regression.
        why: the choice of the algorithm and its reason, in words.
        transform: turns images into the model's inputs, if it is known.
        support: examples and class indices as the algorithm got them, for `expected`.
        expected: the expected accuracy, if it is known already.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        state: Any,
        classes: list[Hashable] | None,
        *,
        why: str = "",
        transform: Transform | None = None,
        support: tuple[Tensor, Tensor] | None = None,
        expected: Expected | None = None,
    ) -> None:
        self.algorithm, self.state, self.classes = algorithm, state, classes
        self.why, self.transform = why, transform
        self._support, self._expected = support, expected
        self._file: str | Path | None = None  # where it was loaded from

    @property
    def expected(self) -> Expected | None:
        """The expected accuracy on new examples with its interval, from the support set alone; None for regression.

        `auto` has already computed it. Otherwise the first call adapts once for each of at most five folds. It is also
        None for a learner that was loaded from a file and was saved before this was computed.
        """
        if self._expected is None and self.classes is not None and self._support is not None:
            with torch.inference_mode(False), torch.no_grad():
                self._expected = expectation(self.algorithm, *self._support)
        return self._expected

    @torch.no_grad()
    def __call__(self, x: Any) -> Tensor:
        """Returns scores `[Q, classes]` or regression outputs of examples `[Q, ...]` of any kind (`read_examples`).

        Examples run in batches of bounded memory, unless their scores depend on each other.

        Raises:
            InputError: examples that cannot be read or that the model does not take; scores that are not finite.
        """
        channels = channels_of(self.algorithm.model)
        found = []
        for part in [x] if self.algorithm.together else _parts(x, self.transform):
            found.append(self._scored(batch_of(self.algorithm, read_examples(part, self.transform, channels))))
        scores = torch.cat(found)
        if len(scores) == 1 and self.algorithm.transductive:
            warnings.warn(
                f"{type(self.algorithm).__name__} looks at all queries of a task together, and was asked for one: it "
                "is no better than class means then.",
                stacklevel=3,
            )
        scores = scores if self.classes is None else scores[:, : len(self.classes)]
        if not scores.isfinite().all():
            bad = int((~scores.reshape(len(scores), -1).isfinite()).any(1).nonzero()[0])
            raise InputError(f"The scores of example {bad} are not finite; check its values, or lower lr.")
        return scores

    def _scored(self, x: Tensor) -> Tensor:
        """Returns scores of examples; the error names their shape, where the model does not take them."""
        own = None if self._support is None else self._support[0]
        if own is not None and own.is_floating_point() and not x.is_floating_point():
            x = x.to(own.dtype)  # whole numbers in place of the support set's fractions
        try:
            return self.algorithm.predict(self.state, x)
        except (KitError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            if self._file is not None:
                # Only the algorithm knows the form of its state, so a file with another one is noticed here.
                raise InputError(
                    f"The learner of {self._file} fails ({type(error).__name__}: {first_line(error)}); give examples "
                    "like those that it was adapted to, or restore the file from a copy."
                ) from error
            odd = own is None or (own.shape[1:], own.dtype) != (x.shape[1:], x.dtype)
            if not odd or not isinstance(error, RuntimeError | ValueError | IndexError | TypeError):
                raise
            like = "" if own is None else f", which had shape {list(own.shape[1:])} ({own.dtype})"
            name = type(self.algorithm.model).__name__
            raise InputError(
                f"{name} does not take examples of shape {list(x.shape[1:])} ({x.dtype}), {first_line(error)}; give "
                f"a batch [N, ...] of examples like those of the support set{like}."
            ) from error

    def predict(self, x: Any) -> list[Hashable] | Tensor:
        """Returns the labels of examples `[Q, ...]`, of the kind that `adapt` was given, or the regression outputs."""
        return self.named(self(x))

    def named(self, scores: Tensor) -> list[Hashable] | Tensor:
        """Returns the labels for scores `[Q, classes]`. Regression outputs are returned as they are."""
        return scores if self.classes is None else [self.classes[i] for i in scores.argmax(-1).tolist()]

    def predict_proba(self, x: Any) -> Tensor:
        """Returns the class probabilities `[Q, classes]` of examples `[Q, ...]`, in the order of `classes`.

        Raises:
            InputError: the task is a regression.
        """
        if self.classes is None:
            raise InputError("A regression task has no probabilities; call predict(x) for its outputs.")
        return self(x).softmax(-1)

    def score(self, x: Any, y: Any) -> float:
        """Returns the accuracy, 0 to 1, on examples with true labels. For regression it is R^2, as in scikit-learn.

        Raises:
            InputError: labels that do not match the examples, or of classes that the learner does not know.
        """
        found, true = self.predict(x), read_labels(y)
        if len(found) != len(true):
            raise InputError(f"{len(found)} examples came with {len(true)} labels; give one label for each example.")
        if isinstance(found, Tensor):
            target = torch.as_tensor(true).to(found).reshape(found.shape)
            return float(1 - (found - target).square().sum() / (target - target.mean(0)).square().sum())
        unknown = [label for label in true if label not in (self.classes or [])]
        if unknown:
            raise InputError(f"The label {unknown[0]!r} is none of the learner's classes, {self.classes}.")
        return sum(one == other for one, other in zip(found, true, strict=True)) / len(true)

    def to(self, device: torch.device | str) -> Learner:
        """Returns a copy of the learner on another device.

        Raises:
            InputError: the device does not exist.
        """
        place, moved = find_device(device), copy.copy(self)
        moved.algorithm, moved.state = copy.deepcopy(self.algorithm).to(place), _moved(self.state, place)
        moved._support = _moved(self._support, place)
        return moved

    def save(self, path: str | Path) -> Path:
        """Saves the learner to one file, without pickle. Classes must be ints or strings."""
        odd = [c for c in self.classes or [] if isinstance(c, bool) or not isinstance(c, int | str)]
        if odd:
            raise InputError(f"The label {odd[0]!r} is neither an int nor a string, so the learner cannot be saved.")
        meta = {
            "recipes": describe(self.algorithm),
            "classes": self.classes,
            "why": self.why,
            "transform": dataclasses.asdict(self.transform) if self.transform else None,
            "expected": dataclasses.asdict(self._expected) if self._expected else None,
        }
        save_state(path, self.algorithm, self.state, meta)
        return Path(path)

    @staticmethod
    def load(path: str | Path, *, model: nn.Module | None = None, algorithm: Algorithm | None = None) -> Learner:
        """Returns the learner that `save` wrote.

        Args:
            path: the file.
            model, algorithm: needed if an unregistered class was adapted.

        Raises:
            InputError: the file is missing, damaged or from a newer version, or the model has to be passed.
        """
        made, state, meta = rebuild(path, model=model, algorithm=algorithm)
        transform, expected, classes = meta.get("transform"), meta.get("expected"), meta.get("classes")
        kinds = {type(each) for each in classes} if isinstance(classes, list) else set()
        if classes is not None and (not kinds or kinds - {int, str}):
            raise InputError(f"{path} is damaged: it has no list of classes; restore it from a copy.")
        learner = Learner(
            made.eval(),
            state,
            classes,
            why=str(meta.get("why", "")),
            transform=from_recorded(Transform, transform, path) if transform else None,
            expected=from_recorded(Expected, expected, path) if expected else None,
        )
        learner._file = path
        return learner


def batch_of(module: nn.Module, x: Tensor) -> Tensor:
    """Returns examples on a module's device. Floats also get its dtype."""
    x = x.clone() if x.is_inference() else x
    return x.to(device_of(module), dtype_of(module) if x.is_floating_point() else None)


def _parts(x: Any, transform: Transform | None) -> Iterator[Any]:
    """Yields examples in parts that are small enough to read and run at once, or all that cannot be split."""
    if not isinstance(x, Tensor | np.ndarray | list | tuple) or not len(x):
        yield x
        return
    size = x[0].size if isinstance(x, np.ndarray) else x[0].numel() if isinstance(x, Tensor) else 1
    if transform is not None:
        size = max(size, transform.channels * transform.image_size**2)
    each = max(1, VALUES // max(1, size))
    for start in range(0, len(x), each):
        yield x[start : start + each]


def _moved(state: Any, device: torch.device) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _moved(value, device) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_moved(value, device) for value in state)
    return state
