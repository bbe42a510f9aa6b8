"""Counts and rates that cannot be are refused by name."""

import pytest
import torch

from fewshot_kit.errors import InputError
from fewshot_kit.ranges import check_rate


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), True, "strong", None, [1.0]])
def test_what_is_no_rate(rate):
    with pytest.raises(InputError) as refused:
        check_rate(scale=1, penalty=rate)
    assert str(refused.value) == f"penalty is {rate!r}; it must be a positive number."


def test_what_is_one():
    check_rate(whole=2, small=1e-30, tensor=torch.tensor(0.5))
