"""Class means of a task, and the linear head that starts from them (Proto-MAML).

Triantafillou et al., "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few Examples", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...modules.heads import head_call
from .inner_loop import Tensors
from .task_classes import members

ABSENT = -1e4  # score of a class without an example: the softmax gives it no probability


def class_means(features: Tensor, y: Tensor) -> Tensor:
    """Features `[..., S, D]`, class indices `[..., S]` -> mean features of every class `[..., classes, D]`."""
    within = members(y).to(features.dtype)
    return within.mT @ features / within.sum(-2)[..., None]


def class_means_head(features: Tensor, y: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """Returns the linear head that scores as a prototypical network does.

    The squared distance of features f to a class mean c is |f|^2 - 2 c f + |c|^2. The term |f|^2 is the same for all
    classes, so the head leaves it out: W = 2 c and b = -|c|^2 (section 3.2, Proto-MAML).

    Args:
        features: features of the support set, `[S, D]`.
        y: class indices, `[S]`.
        outputs: number of outputs of the head; a class without an example gets the score `ABSENT`.

    Returns:
        Weight `[outputs, D]` and bias `[outputs]`.
    """
    means = class_means(features, y)
    absent = outputs - len(means)
    return F.pad(2 * means, (0, 0, 0, absent)), F.pad(-means.square().sum(1), (0, absent), value=ABSENT)


def start_of_head(model: nn.Module, name: str, adapting: Tensors, run: Callable[[], Tensor], y: Tensor) -> Tensors:
    """Returns the head's weight and bias at a task's class means, by name.

    Args:
        name: name of the head.
        adapting: the parameters that adapt, by name.
        run: runs the model on the support set.
        y: class indices of the support set.

    Raises:
        InputError: the head is not linear, does not adapt or is not the end of the model; the targets are floats.
    """
    head, parts = model.get_submodule(name), (f"{name}.weight", f"{name}.bias")
    if y.is_floating_point():
        raise InputError("class_means=True is for classes, and these targets are floats; leave it out.")
    if not isinstance(head, nn.Linear) or not adapting.keys() >= set(parts):
        raise InputError(
            f"class_means=True needs a linear head whose weight and bias adapt, and '{name}' of {type(model).__name__} "
            "is another; leave it out."
        )
    features = head_call(model, name, run)
    if features is None:
        raise InputError(f"{type(model).__name__} does not end with its head '{name}', which class_means=True needs.")
    return dict(zip(parts, class_means_head(features, y, head.out_features), strict=True))
