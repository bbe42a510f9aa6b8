"""What the tests of networks with weights share."""

import pytest
import torch
from mobilenet import NAME, SMALL
from torch import nn

from fewshot_kit import models


@pytest.fixture
def trained() -> nn.Module:
    """A network of seven classes, with stored statistics that no untrained one has."""
    generator = torch.Generator().manual_seed(0)
    net = models.create(NAME, ways=7, seed=1, **SMALL)
    for name, buffer in net.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) / 2 + 0.1)
    return net.eval()
