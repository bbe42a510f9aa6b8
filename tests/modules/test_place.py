"""Where a module lives."""

import torch
from torch import nn

from fewshot_kit.modules.place import place_of


def test_it_is_that_of_the_first_parameter():
    model = nn.Sequential(nn.Linear(2, 2, device="meta", dtype=torch.float64), nn.Linear(2, 2))
    assert place_of(model) == {"device": torch.device("meta"), "dtype": torch.float64}
    assert place_of(nn.Flatten()) == {"device": torch.device("cpu"), "dtype": torch.float32}
