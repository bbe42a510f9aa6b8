"""BOIL's neutral head: silent on the training images, changed no further than that, and made once."""

import pytest
import torch
from small_runs import SMALL
from torch import nn
from toy import noisy_net, world

from fewshot_kit import algorithms, meta_train, models
from fewshot_kit.datasets import Data, Split
from fewshot_kit.errors import InputError


def images(classes=4, each=6):
    x = torch.rand(classes * each, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    return Split(x, torch.arange(classes).repeat_interleave(each), [f"class {index}" for index in range(classes)])


def test_its_scores_are_the_bias_and_the_rest_is_kept():
    """Against the projection as linear algebra has it, by an orthonormal basis of the features."""
    boil = algorithms.create("boil", model=models.create("cnn", hidden=4, image_size=14, seed=0), neutral_head=True)
    before = boil.model.head.weight.detach().clone()
    split = images()
    with torch.no_grad():
        features = nn.functional.max_pool2d(boil.model.features(split.x), 3, 1).flatten(1)
        boil.begin(split, 10)
        assert torch.allclose(boil.model(split.x), boil.model.head.bias.expand(24, -1), atol=1e-3)
    basis = torch.linalg.qr(features.T).Q
    expected = before - before @ basis @ basis.T
    assert torch.allclose(boil.model.head.weight.detach(), expected, atol=1e-3)
    assert expected.norm() > 0.5 * before.norm()


def test_it_is_made_once_and_only_where_it_is_asked_for(tmp_path):
    data = Data("images", images(), None, images(), {})
    settings = SMALL | {"ways": 2, "shots": 1, "queries": 2, "meta_lr": 1e-9}
    net = models.create("cnn", hidden=4, image_size=14, seed=0)
    first = net.head.weight.detach().clone()
    plain = algorithms.create("boil", model=models.create("cnn", hidden=4, image_size=14, seed=0))
    meta_train(plain, data, iterations=1, **settings)
    assert torch.allclose(plain.model.head.weight, first, atol=1e-6)
    boil = algorithms.create("boil", model=net, neutral_head=True)
    meta_train(boil, data, iterations=1, run=tmp_path / "run", **settings)
    made = boil.model.head.weight.detach().clone()
    assert not torch.allclose(made, first, atol=1e-4)
    again = algorithms.create("boil", model=models.create("cnn", hidden=4, image_size=14, seed=0), neutral_head=True)
    meta_train(again, data, iterations=2, run=tmp_path / "run", resume=True, **settings)
    assert torch.allclose(again.model.head.weight, made, atol=1e-6)


def test_what_it_needs_is_said():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = noisy_net()

        def forward(self, x):
            return 2 * self.net(x)

    boil = algorithms.create("boil", model=Scaled(), neutral_head=True)
    with pytest.raises(InputError, match="'net.4' of Scaled is not linear or does not end it"):
        meta_train(boil, world(), iterations=1, **SMALL)
