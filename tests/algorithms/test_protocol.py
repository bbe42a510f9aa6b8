"""What the protocol promises of every algorithm: options that are checked once, and replaced or refused by name."""

from __future__ import annotations

import pytest
from torch import nn

from fewshot_kit import algorithms, models
from fewshot_kit.algorithms import Algorithm
from fewshot_kit.algorithms.bases.replacing import with_options
from fewshot_kit.errors import InputError
from fewshot_kit.options import options_of


def made(name, **options):
    return algorithms.create(name, model=models.create("conv4", ways=5, hidden=4), **options)


class Counts(Algorithm):
    def __init__(self, model, size=1):
        super().__init__(model)
        self.size = size  # after the base's __init__, as anybody would write it
        self.checks = 0

    def check(self):
        self.checks += 1
        if self.size < 1:
            raise InputError(f"size is {self.size}; it must be 1 or more.")


class Doubled(Counts):
    def __init__(self, model, size=1):
        super().__init__(model, size)
        self.weights = nn.Linear(self.size, 2)


class Silent(Counts):
    """Without an __init__ of its own."""


@pytest.mark.parametrize("kind", [Counts, Doubled, Silent])
def test_options_are_checked_once_after_the_outermost_init(kind):
    algorithm = kind(nn.Identity(), size=2)
    assert algorithm.checks == 1
    with_options(algorithm, size=3)
    assert algorithm.checks == 2 and algorithm.size == 3
    with pytest.raises(InputError, match="size is 0; it must be 1 or more"):
        with_options(algorithm, size=0)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("size", [0, -1])
def test_an_option_that_breaks_init_is_named(size):
    """`nn.Linear` does not take -1, and says so less well."""
    with pytest.raises(InputError, match=f"size is {size}; it must be 1 or more"):
        Doubled(nn.Identity(), size=size)


def test_an_error_that_no_option_explains_is_handed_on():
    class Broken(Counts):
        def __init__(self, model):
            super().__init__(model)
            raise RuntimeError("no such luck")

    with pytest.raises(RuntimeError, match="no such luck"):
        Broken(nn.Identity())


@pytest.mark.parametrize("name", algorithms.names())
def test_every_option_can_be_replaced_or_says_that_it_cannot(name):
    algorithm, again = made(name), made(name)
    for option in options_of(type(algorithm)).parameters:
        if option == "model":
            continue
        value = getattr(algorithm, option, None)
        if option in algorithm.fixed or not hasattr(algorithm, option):
            said = f"{type(algorithm).__name__} is made with its {option}, which cannot be replaced later; make another"
            with pytest.raises(InputError, match=said):
                with_options(again, **{option: value})
        else:
            assert getattr(with_options(again, **{option: value}), option) is value


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("r2d2", "penalty"),
        ("anil", "closed_form"),
        ("mann", "reads"),
        ("relation_net", "hidden"),
        ("meta_lstm", "hidden"),
        ("cavia", "context"),
        ("protonet", "head"),
        ("meta_sgd", "lr"),
        ("maml_plus_plus", "head_lr"),
        ("baseline", "classes"),
    ],
)
def test_an_option_of_the_making_has_a_sentence_of_its_own(name, option):
    kind = type(made(name)).__name__
    with pytest.raises(InputError) as caught:
        with_options(made(name), **{option: 2})
    assert str(caught.value) == (
        f"{kind} is made with its {option}, which cannot be replaced later; make another with {option}=2."
    )


@pytest.mark.parametrize("name", ["maml", "boil", "anil", "meta_sgd", "lp_ft", "cavia"])
def test_a_head_that_is_not_there(name):
    with pytest.raises(InputError, match="Conv4 has no module 'nose'; it has blocks"):
        with_options(made(name), head="nose")
    with pytest.raises(InputError, match="Conv4 has no module 'nose'; it has blocks"):
        made(name, head="nose")


@pytest.mark.parametrize("name", ["boil", "anil", "lp_ft"])
def test_the_usual_head_comes_back(name):
    algorithm = with_options(made(name), head="head")
    assert with_options(algorithm, head=None).head == "head"
