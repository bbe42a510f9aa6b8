"""What the tests of the engines share: networks, a meta-batch, and gradients by any engine."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, engines, models
from fewshot_kit.episodes import Episode
from fewshot_kit.seeds import default_draws


def meta_batch(tasks=5, ways=3, shots=2, queries=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    y = [torch.arange(ways).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.rand(tasks, ways * n, 1, 14, 14, generator=generator, dtype=torch.float64) for n in (shots, queries)]
    return Episode(x[0].to(dtype), y[0], x[1].to(dtype), y[1])


def maml(*extra, **options):
    body = models.create("conv4", ways=3, hidden=4, image_size=14, seed=0)
    return algorithms.create("maml", model=nn.Sequential(body, *extra).double(), lr=0.3, **options)


def gradients(algorithm, batch, engine="loop", seed=0, **options):
    algorithm.zero_grad()
    with default_draws(seed, "test"):
        losses, scores = engines.meta_backward(algorithm, batch, engine, **options)
    return [losses, scores, *(p.grad.clone() for p in algorithm.parameters() if p.grad is not None)]


def assert_same(some, others, rtol=1e-10, atol=1e-13):
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(28, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.lstm(x.reshape(len(x), 7, 28))[0][:, -1])


class Attending(nn.Module):
    def __init__(self):
        super().__init__()
        self.inputs, self.block = nn.Linear(28, 8), nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.block(self.inputs(x.reshape(len(x), 7, 28))).mean(1))


NETWORKS = {
    "conv4": lambda: models.create("conv4", ways=3, hidden=4, image_size=14),
    "conv4 with pools": lambda: models.create("conv4", ways=3, hidden=4, image_size=16, downsample="pool"),
    "resnet": lambda: models.create("resnet", ways=3, hidden=4, image_size=14),
    "mlp": lambda: models.create("mlp", inputs=196, ways=3),
    "LSTM": Recurrent,
    "attention": Attending,
}


def build(network, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return NETWORKS[network]().to(dtype)


def batch_for(network, dtype):
    batch = meta_batch(4, dtype=dtype)
    if network != "conv4 with pools":
        return batch
    return batch._replace(support_x=F.pad(batch.support_x, (1, 1, 1, 1)), query_x=F.pad(batch.query_x, (1, 1, 1, 1)))


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(196, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.head(x * 2 if x.sum() > 0 else x)
