"""`check_model` and `check_dataset` pass what the kit has, and notice what they are for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewshot_kit import datasets, models
from fewshot_kit.datasets import Data, Split
from fewshot_kit.errors import InputError
from fewshot_kit.testing import check_dataset, check_model

SIZES = {"conv4": (1, 28, 28), "cnn": (1, 14, 14), "resnet": (1, 14, 14), "omniglot_fc": (1, 28, 28), "mlp": (1,)}


@pytest.mark.parametrize("name", SIZES)
def test_the_kits_models_pass(name):
    sizes = {"image_size": SIZES[name][-1]} if len(SIZES[name]) == 3 else {}
    check_model(lambda ways: models.create(name, ways=ways, seed=0, **sizes), SIZES[name])


class Flat(nn.Module):
    def __init__(self, ways):
        super().__init__()
        self.head = nn.Linear(196, ways)

    def forward(self, x):
        return self.head(x.flatten(1))


class Fixed(Flat):
    def __init__(self, ways):
        super().__init__(3)


class InFloat32(Flat):
    def forward(self, x):
        return super().forward(x).float()


class Together(Flat):
    def forward(self, x):
        scores = super().forward(x)
        return scores - scores.mean(0)


class Counting(Flat):
    def __init__(self, ways):
        super().__init__(ways)
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


class Dropping(Flat):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 1e-9)


class Cut(Flat):
    def forward(self, x):
        return super().forward(x).detach().requires_grad_()


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Fixed, r"With ways=2 it gives \[4, 3\] for 4 examples"),
        (InFloat32, "In float64 it gives torch.float32"),
        (Together, "an example's scores depend on those beside it"),
        (Counting, "A forward pass in eval mode changes seen"),
        (Dropping, "A forward pass in eval mode draws from the global RNG"),
        (Cut, "An inner step moves no parameter"),
    ],
)
def test_a_broken_model_is_named(broken, said):
    check_model(Flat)
    with pytest.raises(AssertionError, match=said):
        check_model(broken)


def split(classes="abc", each=4, start=0.0, kind=Split):
    y = torch.arange(len(classes)).repeat_interleave(each)
    return kind(start + torch.arange(len(y), dtype=torch.float32)[:, None], y, list(classes), "mine")


def data(train, test):
    return Data("mine", train, None, test, {})


def test_data_sets_pass():
    check_dataset(datasets.create("glyphs"), ways=5, shots=2, queries=3)
    check_dataset(data(split("abc"), split("def")))


class GlobalDraws(Split):
    def episodes(self, *task, generator=None, **more):
        return super().episodes(*task, generator=torch.Generator().manual_seed(int(torch.randint(9, (1,)))), **more)


class Deaf(Split):
    def episodes(self, *task, generator=None, **more):
        return super().episodes(*task, generator=torch.Generator().manual_seed(0), **more)


class Forgetful(Split):
    def episodes(self, *task, generator=None, **more):
        return super().episodes(*task, **more)


class Leaking(Split):
    def episodes(self, *task, **more):
        drawn = super().episodes(*task, **more)
        return drawn._replace(query_x=drawn.support_x)


class Unlabelled(Split):
    def episodes(self, *task, **more):
        drawn = super().episodes(*task, **more)
        return drawn._replace(query_y=torch.zeros_like(drawn.query_y))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (GlobalDraws, "draws from the global RNG"),
        (Deaf, "Every generator draws the same episodes"),
        (Forgetful, "The same generator draws other episodes"),
        (Leaking, "A support example of mine is among the queries"),
        (Unlabelled, "The query labels of mine are not 1 of each of 0 to 1"),
    ],
)
def test_a_broken_split_is_named(kind, said):
    with pytest.raises(AssertionError, match=said):
        check_dataset(data(split("abc"), split("def", kind=kind)))


def test_a_class_in_two_splits_is_named():
    with pytest.raises(AssertionError, match="The class 'c' is in train and in test"):
        check_dataset(data(split("abc"), split("cde")))


def test_a_split_that_is_missing_or_has_no_classes_is_named():
    with pytest.raises(AssertionError, match="The data set has no test split"):
        check_dataset(data(split("abc"), None))
    with pytest.raises(InputError, match="check_dataset needs labelled examples, and the training split of sinusoid"):
        check_dataset(datasets.create("sinusoid"))


def test_what_a_split_refuses_is_said_by_it():
    with pytest.raises(InputError, match="4 ways are more than the 3 classes of mine"):
        check_dataset(data(split("abc"), split("def")), ways=4)
