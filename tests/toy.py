"""A small world for the tests of training, evaluation and checkpoints: points around class centres."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewshot_kit.algorithms import Algorithm
from fewshot_kit.datasets import Data, Split
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError


def points(classes: int = 8, per_class: int = 12, name: str = "train", seed: int = 0, spread: float = 0.7) -> Split:
    """`classes` clouds of `per_class` points in 6 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 1, 6, generator=generator)
    x = (centres + spread * torch.randn(classes, per_class, 6, generator=generator)).flatten(0, 1)
    return Split(x, torch.arange(classes).repeat_interleave(per_class), [f"{name}{i}" for i in range(classes)], name)


def world(validation: bool = True) -> Data:
    """A data set of such points."""
    held_out = points(name="validation", seed=1) if validation else None
    return Data("points", points(), held_out, points(name="test", seed=2), {})


def noisy_net(ways: int = 3) -> nn.Module:
    """Everything that makes resuming hard: dropout, batch norm with running statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(0).get_state())
        return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, ways))


class Centroids(Algorithm):
    """Nearest class centre in the model's output; its model runs as any module does, so it moves running statistics."""

    def adapt(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        features = self.model(x)
        return {"centres": torch.stack([features[y == label].mean(0) for label in range(int(y.max()) + 1)])}

    def predict(self, state: dict[str, Tensor], x: Tensor) -> Tensor:
        return -torch.cdist(self.model(x), state["centres"])


class Odd(Centroids):
    """The loss of some episodes is NaN, by their queries alone; every episode moves the running statistics."""

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        value, scores = super().loss(episode)
        return torch.where(episode.query_x[0, 0] > 1.5, torch.nan, 1.0) * value, scores


class Waves:
    """A regression split: y = a sin(x) with an amplitude per episode."""

    name, example_shape = "waves", torch.Size([1])

    def check(self, ways: int, shots: int, queries: int) -> None:
        if shots < 1:
            raise InputError("shots is 0")

    def episodes(self, ways, shots, queries, meta_batch, generator=None, device=None) -> Episode:
        x = 10 * torch.rand(meta_batch, shots + queries, 1, generator=generator) - 5
        y = (1 + torch.rand(meta_batch, 1, generator=generator)) * x.squeeze(-1).sin()
        return Episode(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:]).to(device or "cpu")
