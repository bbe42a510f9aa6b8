"""adapt() and Learner: one task in, a predictor out, and nothing that was given is changed."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from fewshot_kit import algorithms, models
from fewshot_kit.adaptation.adapting import Learner, adapt
from fewshot_kit.algorithms.bases.replacing import with_options
from fewshot_kit.errors import InputError, KitError
from fewshot_kit.options import options_of
from fewshot_kit.runs.checkpoints import save
from fewshot_kit.seeds import default_draws


def clusters(ways=3, shots=4, seed=0):
    """Vectors around one corner per class: easy, so that adapting must get them right."""
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.eye(6)[:ways]
    x = centres.repeat_interleave(shots, 0) + 0.3 * torch.randn(ways * shots, 6, generator=generator)
    return x, torch.arange(ways).repeat_interleave(shots)


def network(outputs=5):
    with default_draws(0, "test network"):
        return build(outputs)


def build(outputs):
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, outputs))


META_TRAINED = {"cavia", "mann", "relation_net", "task_conditioned"}  # what adapts in them means nothing before that


def taken(name, **options):
    """Those of the options that the algorithm has."""
    known = options_of(algorithms.get(name)).parameters
    return {key: value for key, value in options.items() if key in known}


@pytest.mark.parametrize("name", algorithms.names())
def test_learns_a_task_and_changes_nothing(name):
    x, y = clusters()
    model = network().train()
    model[0].bias.requires_grad_(False)
    before, modes = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    random = torch.get_rng_state()
    learner = adapt(model, (x, y), algorithm=name, **taken(name, steps=30, lr=0.1))
    query, truth = clusters(seed=1)
    assert learner(query).shape == (12, 3)
    if name not in META_TRAINED:
        assert np.mean(np.array(learner.predict(query)) == truth.numpy()) >= 0.8
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("labels", [["cat", "dog", "eel"], [30, 10, 20], [-1, 0, 7]])
def test_speaks_the_callers_labels(labels):
    x, y = clusters()
    learner = adapt(network(), (x, [labels[i] for i in y]), steps=40)
    assert learner.classes == sorted(labels)
    query, truth = clusters(seed=1)
    assert learner.predict(query) == [labels[i] for i in truth]
    probabilities = learner.predict_proba(query)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(12))
    assert learner.classes[int(probabilities[0].argmax())] == labels[0]


def test_takes_tensors_arrays_and_uint8_images():
    image = (torch.rand(4, 1, 14, 14, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    model = models.create("conv4", ways=2, hidden=4, image_size=14, seed=0)
    by_bytes = adapt(model, (image, [0, 0, 1, 1]), algorithm="maml")(image)
    by_floats = adapt(model, (image.numpy().astype(np.float32) / 255, np.array([0, 0, 1, 1])), algorithm="maml")(image)
    torch.testing.assert_close(by_bytes, by_floats)


def test_float_targets_mean_regression():
    x = torch.linspace(-1, 1, 12)[:, None]
    learner = adapt(models.create("mlp", seed=0), (x, (2 * x + 1).flatten()), steps=300, lr=0.02)
    assert learner.classes is None
    outputs = learner.predict(x)
    assert ((outputs.flatten() - (2 * x + 1).flatten()) ** 2).mean() < 0.01
    with pytest.raises(InputError, match="no probabilities"):
        learner.predict_proba(x)


def test_works_inside_inference_mode():
    x, y = clusters()
    with torch.inference_mode():
        assert adapt(network(), (x.clone(), y.clone()), steps=3)(x).shape == (12, 3)


def test_later_training_does_not_reach_a_learner():
    x, y = clusters()
    model = network()
    learner = adapt(model, (x, y), algorithm="anil")
    before = learner(x)
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(before, learner(x))


def test_an_algorithm_keeps_its_options_unless_told_otherwise():
    x, y = clusters()
    boil = algorithms.create("boil", model=network(), lr=0.2, steps=2)
    assert adapt(boil, (x, y)).algorithm.steps == 2
    learner = adapt(boil, (x, y), steps=7)
    assert learner.algorithm.steps == 7 and boil.steps == 2
    for wrong, message in [
        ({"stesp": 7}, "Did you mean 'steps'"),
        ({"steps": -1}, "0 or more"),
        ({"lr": 0}, "positive"),
    ]:
        with pytest.raises(InputError, match=message):
            adapt(boil, (x, y), **wrong)
    with pytest.raises(InputError, match="BOIL already"):
        adapt(boil, (x, y), algorithm="maml")


def test_a_run_folder_adapts(tmp_path):
    x, y = clusters()
    maml = algorithms.create("maml", model=models.create("mlp", inputs=6, ways=3, seed=0), lr=0.3, steps=3)
    save(maml, tmp_path / "run")
    assert torch.equal(adapt(tmp_path / "run", (x, y))(x), adapt(maml, (x, y))(x))


@pytest.mark.parametrize("name", algorithms.names())
def test_save_and_load(name, tmp_path):
    x, y = clusters()
    model = models.create("mlp", inputs=6, ways=4, seed=0)
    learner = adapt(model, (x, ["abc"[i] for i in y]), algorithm=name, **taken(name, steps=3))
    learner.save(tmp_path / "task.safetensors")
    again = Learner.load(tmp_path / "task.safetensors")
    assert torch.equal(again(x), learner(x))
    assert again.predict(x) == learner.predict(x) and again.classes == ["a", "b", "c"]


def test_a_model_of_ones_own_is_handed_to_load(tmp_path):
    x, y = clusters()
    path = adapt(network(), (x, y), algorithm="maml").save(tmp_path / "task.safetensors")
    with pytest.raises(InputError, match="model="):
        Learner.load(path)
    assert Learner.load(path, model=network()).predict(x) == adapt(
        Learner.load(path, model=network()).algorithm, (x, y)
    ).predict(x)


def test_replaced_options_survive_saving(tmp_path):
    x, y = clusters()
    maml = algorithms.create("maml", model=models.create("mlp", inputs=6, ways=3, seed=0))
    path = adapt(maml, (x, y), steps=9).save(tmp_path / "task.safetensors")
    assert Learner.load(path).algorithm.steps == 9
    assert with_options(copy.deepcopy(maml), steps=4).recipe["options"]["steps"] == 4


X, Y = clusters()
NAN = X.clone()
NAN[3, 2] = float("nan")


@pytest.mark.parametrize(
    "model, support, options, message",
    [
        (network(), (X, Y[:-1]), {}, "12 examples came with 11 labels"),
        (network(), (X[:0], Y[:0]), {}, "support set is empty"),
        (network(), (NAN, Y), {}, "number 3"),
        (network(2), (X, Y), {"algorithm": "maml"}, "3 .*2 outputs"),
        (network(), (X[:, :4], Y), {}, r"shape \[4\]"),
        (models.create("conv4", channels=3), (torch.zeros(2, 1, 28, 28), [0, 1]), {}, "3 channels"),
        (nn.Flatten(), (X, Y), {"algorithm": "boil"}, "no nn.Linear"),
        (nn.Flatten(), (X, Y), {"algorithm": "anil"}, "no nn.Linear"),
        (network(), (X, Y), {"algorithm": "boil", "head": "fc"}, "no module 'fc'"),
        (network(), (X, Y), {"algorithm": "bo1l"}, "Did you mean 'boil'"),
        (network(), (X, Y), {"algorithm": "maml", "lrr": 0.1}, "no option 'lrr'"),
        (network(), (X, Y), {"batch_norm": "batch"}, "transductive, support, running"),
        ("no/such/run", (X, Y), {}, "no run folder"),
    ],
)
def test_bad_input_gets_one_sentence(model, support, options, message):
    with pytest.raises(KitError, match=message):
        adapt(model, support, **options)
