"""Sung, Yang, Zhang, Xiang, Torr and Hospedales, "Learning to Compare: Relation Network for Few-Shot Learning",
CVPR 2018."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from ..errors import InputError
from ..modules.heads import linear_head
from ..modules.place import place_of
from ..ranges import check_counts
from ._registry import register
from .bases.class_means import class_means
from .bases.metric import Metric
from .bases.protocol import Criterion


def relation_error(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the sigmoid of scores `[Q, classes]` against the one-hot targets (equation 2)."""
    return F.mse_loss(scores.sigmoid(), F.one_hot(targets, scores.shape[1]).to(scores.dtype))


@register("relation_net")
class RelationNet(Metric):
    """A learned relation module scores how well a query matches the mean support features of a class.

    The paper sums the features of a class. The mean is the same for 1 shot, and a network that was trained on 1 shot
    also works with it for 5 shots. With sums, the relation module would see inputs unlike its training (53 % instead of
    99 %).

    A convolutional module compares the last feature maps `[N, C, H, W]`, before any adaptive pooling, if the model's
    last layer with weights before the head is a convolution or its batch norm. Otherwise, a module of linear layers
    compares the embeddings. The sigmoid of a score is the paper's relation score, from 0 to 1. The state of a task is
    `{"means" [classes, C, H, W] or [classes, D], "statistics"}`. `Metric` describes the other options; the criterion is
    `relation_error` by default.

    Args:
        hidden: width of the relation module.
        maps: name of the module whose maps are compared, such as `"blocks.3"`.
        width: D; needed if embeddings are compared and the model has no linear head that tells it.
    """

    fixed = Metric.fixed | {"hidden", "width"}

    def __init__(
        self,
        model: nn.Module,
        *,
        hidden: int = 64,
        maps: str | None = None,
        width: int | None = None,
        criterion: Criterion | None = None,
        **options: Any,
    ) -> None:
        self.maps = maps
        head = linear_head(model, options.get("head"))
        super().__init__(model, criterion=criterion or relation_error, **options)
        check_counts(hidden=hidden)
        channels = map_channels(self.model if maps is None else self.model.get_submodule(maps))
        width = width or (head.in_features if head is not None else None)
        relation: nn.Module
        if channels is not None:
            relation = ConvolutionalRelation(channels, hidden)
        elif maps is not None:
            raise InputError(
                f"The module '{maps}' does not end with a convolution or a batch norm of images, by which the channels "
                "of its maps are known; name one that does."
            )
        elif width is not None:
            relation = linear_relation(width, hidden)
        else:
            raise InputError(f"{type(model).__name__} has no linear head; say how wide its embedding is, as width=64.")
        self.relation, self.channels = relation.to(**place_of(model)), channels or width

    def check(self) -> None:
        """Raises `InputError` for options out of range."""
        super().check()
        modules = dict(self.model.named_modules())
        if self.maps is not None and self.maps not in modules:
            known = ", ".join(filter(None, modules))
            raise InputError(f"{type(self.model).__name__} has no module '{self.maps}'; it has {known}.")

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Support set `[S, ...]`, `[S]` -> `{"means", "statistics"}`."""
        with last_maps(self.model, self.maps) as seen:
            embedded, statistics = self.embed_support(x)
        features = self._compared(embedded, seen)
        means = class_means(features.flatten(1), y).unflatten(1, features.shape[1:])
        return {"means": means, "statistics": statistics}

    def predict(self, state: dict[str, Any], x: Tensor) -> Tensor:
        """Query set `[Q, ...]` -> scores `[Q, classes]`."""
        with last_maps(self.model, self.maps) as seen:
            embedded = self.embed_query(x, state["statistics"])
        query, means = self._compared(embedded, seen), state["means"]
        if query.shape[1:] != means.shape[1:]:
            raise InputError(
                f"The support set's features have shape {list(means.shape[1:])} and the query's "
                f"{list(query.shape[1:])}; give examples of one size."
            )
        shape = [len(query), *means.shape]
        pairs = torch.cat([means[None].expand(shape), query[:, None].expand(shape)], 2)
        scores: Tensor = self.relation(pairs.flatten(0, 1)).unflatten(0, shape[:2])
        return scores

    def _compared(self, embedded: Tensor, seen: list[Tensor]) -> Tensor:
        """Returns the features that the relation module compares: maps `[N, C, H, W]` or embeddings `[N, D]`."""
        on_maps = isinstance(self.relation, ConvolutionalRelation)
        if on_maps and not seen:
            raise InputError(
                f"{type(self.model).__name__} has shown no maps [N, C, H, W]; name the module that gives them, as "
                "maps='blocks.3'."
            )
        features = seen[0] if on_maps else embedded
        if features.shape[1] != self.channels:
            kind, option = ("channels", "maps='blocks.3'") if on_maps else ("values", f"width={features.shape[1]}")
            raise InputError(
                f"The features to compare have {features.shape[1]} {kind} and the relation module was made for "
                f"{self.channels}; say what to compare when making it, as {option}."
            )
        return features


def linear_relation(width: int, hidden: int) -> nn.Sequential:
    """Returns a relation module of linear layers: concatenated pairs of vectors `[P, 2 D]` -> scores `[P]`."""
    return nn.Sequential(nn.Linear(2 * width, hidden), nn.ReLU(), *_score(hidden))


class ConvolutionalRelation(nn.Module):
    """The paper's relation module, of two blocks and two linear layers: pairs of maps -> scores `[P]`.

    The two maps of a pair are concatenated along the channels, `[P, 2 C, H, W]`. Group norm replaces the paper's batch
    norm, so that the score of a pair never depends on the other pairs. The convolutions are padded, and a side of
    length 1 is not pooled, so that maps may be small. The final maps are averaged over their positions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inputs, hidden, kernel_size=3, padding=1), nn.GroupNorm(1, hidden), nn.ReLU())
            for inputs in (2 * channels, hidden)
        )
        self.score = nn.Sequential(*_score(hidden))

    def forward(self, pairs: Tensor) -> Tensor:
        for block in self.blocks:
            pairs = block(pairs)
            pairs = F.max_pool2d(pairs, [min(2, side) for side in pairs.shape[2:]])
        return self.score(pairs.mean((2, 3)))


def _score(hidden: int) -> list[nn.Module]:
    return [nn.Linear(hidden, 8), nn.ReLU(), nn.Linear(8, 1), nn.Flatten(0)]


def map_channels(model: nn.Module) -> int | None:
    """Number of channels of the last layer with weights, if it outputs maps; None otherwise."""
    aside = (nn.GroupNorm, nn.PReLU)  # they take both maps and vectors, so they do not tell
    weighted = [m for m in model.modules() if next(m.parameters(recurse=False), None) is not None]
    last = next((m for m in reversed(weighted) if not isinstance(m, aside)), None)
    if isinstance(last, nn.Conv2d | nn.ConvTranspose2d):
        return last.out_channels
    return last.num_features if isinstance(last, nn.BatchNorm2d) else None


@contextlib.contextmanager
def last_maps(model: nn.Module, name: str | None) -> Iterator[list[Tensor]]:
    """Context that collects the last maps, a 4-D tensor, while the model runs once inside it.

    The maps are the output of the named module, or the last 4-D output of any module. In the second case the output of
    an adaptive pool is left out, since it keeps too little of an image for convolutions.
    """
    watched = list(model.modules()) if name is None else [model.get_submodule(name)]
    seen: list[Tensor] = []
    pooled: list[Tensor] = []
    hooks: list[RemovableHandle] = []

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if name is None and isinstance(module, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d):
            pooled[:] = [output]
        elif isinstance(output, Tensor) and output.dim() == 4 and not any(output is one for one in pooled):
            seen[:] = [output]

    def begin(module: nn.Module, inputs: Any) -> None:
        # These hooks are registered as late as this, since they must come after the hooks by which the `support` policy
        # replaces the output of batch norm.
        hooks.extend(m.register_forward_hook(look) for m in watched)

    hooks.append(model.register_forward_pre_hook(begin))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
