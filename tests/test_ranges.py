"""Counts and rates that cannot be are refused by name."""

import pytest
import torch

from fewshot_kit.errors import InputError
from fewshot_kit.ranges import check_counts, check_rate


@pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf"), True, "strong", None, [1.0]])
def test_what_is_no_rate(rate):
    with pytest.raises(InputError) as refused:
        check_rate(scale=1, penalty=rate)
    assert str(refused.value) == f"penalty is {rate!r}; it must be a positive number."


def test_what_is_one():
    check_rate(whole=2, small=1e-30, tensor=torch.tensor(0.5))


@pytest.mark.parametrize("count", [0, -1, 1.0, True, "5", None])
def test_what_is_no_count(count):
    said = f"{count!r}; it must be a whole number of at least 1."
    with pytest.raises(InputError) as refused:
        check_counts(ways=5, shots=count)
    assert str(refused.value) == f"shots is {said}"
    with pytest.raises(InputError) as refused:
        check_counts(1, "cnn", ways=5, hidden=count)
    assert str(refused.value) == f"The model 'cnn' cannot have hidden={said}"


def test_counts_from_another_number_on():
    check_counts(0, steps=0)
    with pytest.raises(InputError, match="rows is 1; it must be a whole number of at least 2"):
        check_counts(2, rows=1)
