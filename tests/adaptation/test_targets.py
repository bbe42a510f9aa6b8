"""Targets of the wrong kind, and support sets that leave nothing to learn: one sentence each, before any work."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from toy import Waves, noisy_net, points, world

from fewshot_kit import adapt, algorithms, datasets, evaluate, meta_train, models
from fewshot_kit.errors import InputError

X = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))


def net(outputs):
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, outputs))


@pytest.mark.parametrize("name", [name for name in algorithms.names() if not algorithms.get(name).regression])
def test_a_classifier_refuses_float_targets(name):
    said = "tells classes apart, and these targets are floats; give class labels"
    with pytest.raises(InputError, match=said):
        adapt(net(3), (X, torch.rand(6)), algorithm=name)


@pytest.mark.parametrize("name", [name for name in algorithms.names() if algorithms.get(name).regression])
def test_the_others_take_them(name):
    model = models.create("mlp", seed=0)
    learner = adapt(model, (X[:, :1], X[:, 1]), algorithm=name)
    assert learner.classes is None and learner(X[:, :1]).numel() == 6


def test_a_classifier_is_not_trained_on_waves():
    with pytest.raises(InputError, match="ProtoNet tells classes apart"):
        algorithm = algorithms.create("protonet", model=models.create("mlp"))
        data = datasets.Data("waves", Waves(), None, Waves(), {})
        meta_train(algorithm, data, ways=1, iterations=1, meta_batch=1, progress=False)
    with pytest.raises(InputError, match="ProtoNet tells classes apart"):
        evaluate(algorithm, Waves(), ways=1, episodes=2)


def test_int_targets_for_a_regression():
    with pytest.raises(InputError, match="has 1 output; make the model with ways=6, or give float targets"):
        adapt(net(1), (X, [1, 2, 3, 4, 5, 6]), algorithm="maml")
    with pytest.raises(InputError, match="The criterion does not take class labels .*; give it float targets"):
        adapt(net(3), (X, [1, 2, 3, 1, 2, 3]), algorithm="maml", criterion=F.mse_loss)


def test_float_targets_for_a_model_of_classes():
    with pytest.raises(InputError, match="gives 3 outputs for an example, and its target has 1 value; .*ways=1"):
        adapt(net(3), (X, torch.rand(6)), algorithm="maml")
    with pytest.raises(InputError, match="The criterion does not take float targets .*; give it class labels"):
        adapt(net(3), (X, torch.rand(6)), algorithm="maml", criterion=F.nll_loss)


@pytest.mark.parametrize("name", algorithms.names())
def test_one_class_leaves_nothing_to_tell_apart(name):
    with pytest.raises(InputError, match="All 6 support examples are of one class, 'cat'; give examples of two"):
        adapt(net(3), (X, ["cat"] * 6), algorithm=name)


def test_one_query_has_no_statistics_of_its_own():
    learner = adapt(noisy_net(), (torch.rand(6, 6), list("abcabc")), algorithm="maml", batch_norm="transductive")
    with pytest.raises(InputError, match="cannot take its statistics from 1 example .*; give more examples, or take"):
        learner(torch.rand(1, 6))


def test_one_way_leaves_nothing_to_tell_apart():
    with pytest.raises(InputError, match="1 way leaves nothing to tell apart; take ways=2 or more."):
        points().episodes(1, 1, 1, meta_batch=1)


def test_trained_with_more_ways_than_tested():
    """As prototypical networks are; the validation is of the ways that are asked for later."""
    algorithm, seen = algorithms.create("protonet", model=net_of_points()), []

    class Watch:
        on_start = on_iteration = on_end = on_exit = lambda *_: None

        def on_validation(self, training, found):
            seen.append((found.ways, training.settings.ways, training.settings.validation_ways))

    task = {"ways": 6, "validation_ways": 2, "shots": 1, "queries": 2, "validation_queries": 2}
    meta_train(algorithm, world(), **task, iterations=1, meta_batch=2, progress=False, hooks=[Watch()])
    assert seen == [(2, 6, 2)]


def net_of_points():
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 6))
