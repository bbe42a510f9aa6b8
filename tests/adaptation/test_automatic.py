"""`adapt` without options: what it takes, why, what it expects, and what it says where nothing fits."""

import re

import numpy as np
import pytest
import torch
from test_adaptation import clusters, network
from torch import nn
from torch.nn import functional as F

from fewshot_kit import Learner, adapt, algorithms, datasets, models
from fewshot_kit.adaptation.expectation import wilson
from fewshot_kit.algorithms import LPFT, Finetune, Ridge
from fewshot_kit.datasets import Split
from fewshot_kit.errors import InputError, MisfitWarning
from fewshot_kit.seeds import default_draws


def task(shots=5, ways=4, seed=0, size=12, spread=0.25):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(ways).repeat_interleave(shots)
    return torch.eye(size)[y] + spread * torch.randn(len(y), size, generator=generator), y


def blind(outputs=4):
    """Its features tell little of what the classes differ in, but its first layer can learn to see it."""
    with default_draws(0, "blind"):
        model = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, outputs))
    with torch.no_grad():
        model[0].weight[:, :4] *= 0.01
        model[2].weight[1:] = model[2].weight[:1] + 0.01 * model[2].weight[1:]
    return model


def test_takes_a_head_on_frozen_features():
    x, y = task()
    learner = adapt(network_of(12), (x, y))
    assert isinstance(learner.algorithm, Ridge)
    assert re.fullmatch(
        r"ridge regression on frozen features: \d+% of 20 held-out support examples right \(class means of frozen "
        r"features \d+%, logistic regression on frozen features \d+%\)",
        learner.why,
    )
    queries, truth = task(shots=50, seed=1)
    assert learner.score(queries, truth) > 0.7
    assert learner.expected.held_out == 20 and learner.expected.low < learner.score(queries, truth)


def network_of(inputs):
    with default_draws(0, "test network"):
        return nn.Sequential(nn.Linear(inputs, 32), nn.ReLU(), nn.Linear(32, 4))


def test_is_what_a_person_would_get_by_hand():
    """At least scikit-learn's logistic regression on the same features, over twenty tasks."""
    linear = pytest.importorskip("sklearn.linear_model")
    model, ours, theirs = network_of(12), [], []
    for seed in range(20):
        (x, y), (queries, truth) = task(seed=seed), task(shots=20, seed=100 + seed)
        ours.append(adapt(model, (x, y)).score(queries, truth))
        with torch.no_grad():
            seen = [F.normalize(model[:2](each)).numpy() for each in (x, queries)]
        theirs.append(linear.LogisticRegression(max_iter=1000).fit(seen[0], y).score(seen[1], truth))
    assert np.mean(ours) >= np.mean(theirs) - 0.005


def test_fine_tunes_where_the_features_are_poor():
    x, y = task(shots=8, spread=0.3)
    learner = adapt(blind(), (x, y))
    assert isinstance(learner.algorithm, LPFT) and learner.why.startswith("fine-tuning from a ridge regression: ")
    queries, truth = task(shots=30, seed=1, spread=0.3)
    assert learner.score(queries, truth) > adapt(blind(), (x, y), algorithm="ridge").score(queries, truth) + 0.1


def test_what_would_take_too_long_is_said(monkeypatch):
    monkeypatch.setattr("fewshot_kit.adaptation.automatic.FLOPS", 1.0)
    learner = adapt(blind(), task(shots=8, spread=0.3))
    assert isinstance(learner.algorithm, Ridge)
    assert "fine-tuning was not tried: it would take 0 TFLOP; name it, as algorithm='lp_ft'" in learner.why
    assert "the model has no linear head" in adapt(nn.Tanh(), task(seed=3, spread=9.0)).why


def test_one_example_a_class_tells_nothing():
    learner = adapt(network_of(12), task(shots=1))
    assert learner.why == "ridge regression on frozen features, untried: one example a class leaves none to hold out"
    assert learner.expected.accuracy is None and (learner.expected.low, learner.expected.high) == (0.25, 1.0)
    assert str(learner.expected).startswith("anything from 25% to 100%")


def test_a_network_that_was_never_trained_is_fine_tuned_on_one_example_a_class():
    model = models.create("conv4", ways=4, hidden=8, image_size=14, seed=0)
    x = torch.rand(4, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    learner = adapt(model, (x, list("abcd")))
    assert isinstance(learner.algorithm, LPFT) and learner.predict(x) == list("abcd")
    assert learner.why.startswith("fine-tuning from a ridge regression, since the network was never trained, untried:")
    with torch.no_grad():
        model.blocks[0][1].weight[0] = 1.01  # what any training does
    assert isinstance(adapt(model, (x, list("abcd"))).algorithm, Ridge)


def test_more_classes_than_the_head_has_outputs():
    x, y = task(ways=6)
    assert len(adapt(network_of(12), (x, y)).classes) == 6
    assert len(adapt(network_of(12), (x, y), algorithm="lp_ft").predict_proba(x)[0]) == 6


def test_options_that_are_not_autos_ask_for_fine_tuning():
    learner = adapt(network_of(12), task(), steps=3)
    assert type(learner.algorithm) is Finetune and learner.algorithm.steps == 3
    assert type(adapt(network_of(12), task(), head="2").algorithm) is Ridge


def test_float_targets_are_fine_tuned():
    x = torch.linspace(-1, 1, 20)[:, None]
    learner = adapt(models.create("mlp", seed=0), (x, 2 * x[:, 0] + 1))
    assert type(learner.algorithm) is Finetune and learner.expected is None and "float targets" in learner.why
    assert learner.score(x, (2 * x[:, 0] + 1).tolist()) > 0.9


def test_the_expected_accuracy_is_about_the_true_one():
    """Over a hundred tasks with five examples a class: the mean within three points, most intervals right."""
    expected, true, held = [], [], []
    for seed in range(100):
        (x, y), (queries, truth) = task(seed=seed, spread=0.4), task(shots=30, seed=1000 + seed, spread=0.4)
        learner = adapt(nn.Identity(), (x, y))
        expected.append(learner.expected.accuracy)
        true.append(learner.score(queries, truth))
        held.append(learner.expected.low <= true[-1] <= learner.expected.high)
    assert abs(np.mean(expected) - np.mean(true)) < 0.03 and np.mean(held) > 0.85


def test_wilsons_interval():
    found = wilson(8, 10, 5)  # by hand: (0.8 + 1.96^2 / 20 -+ 1.96 sqrt(0.016 + 1.96^2 / 400)) / (1 + 1.96^2 / 10)
    assert (round(found.low, 4), round(found.high, 4)) == (0.4902, 0.9433)
    assert wilson(10, 10, 5).high == 1.0 and wilson(0, 10, 5).low == 0.0


def test_any_algorithm_expects_something():
    learner = adapt(network(3), clusters(), algorithm="maml", steps=10, lr=0.1)
    assert learner.expected.held_out == 12 and learner.expected.accuracy > 0.6


def test_nothing_of_this_is_lost_in_a_file(tmp_path):
    x, y = task()
    model = models.create("mlp", inputs=12, ways=4, seed=0)
    learner = adapt(model, (x.numpy(), y.numpy().astype(np.int16)), transform=None)
    again = Learner.load(learner.save(tmp_path / "one"))
    assert (again.why, again.expected, again.classes) == (learner.why, learner.expected, [0, 1, 2, 3])
    assert Learner.load(adapt(model, (x, y), algorithm="anil").save(tmp_path / "two")).expected is None
    assert torch.equal(learner.to("cpu")(x), learner(x))
    other = adapt(tmp_path / "one", (x[:10], list("aaaaabbbbb")))  # another task by what adapted to this one
    assert type(other.algorithm) is type(learner.algorithm) and other.score(x[:10], list("aaaaabbbbb")) == 1


def test_queries_run_in_batches(monkeypatch):
    x, y = task()
    queries, _ = task(shots=40, seed=2)
    for name in ("auto", "anil", "bd_cspn"):
        learner = adapt(network_of(12), (x, y), algorithm=name)
        whole = learner(queries)
        rows = []
        handle = learner.algorithm.model.register_forward_pre_hook(
            lambda _, given, rows=rows: rows.append(len(given[0]))
        )
        with monkeypatch.context() as patch:
            patch.setattr("fewshot_kit.modules.batching.VALUES", 12 * 50)
            patch.setattr("fewshot_kit.adaptation.learner.VALUES", 12 * 50)
            torch.testing.assert_close(learner(queries), whole)
        handle.remove()
        assert name == "anil" or (max(rows) == 50 and sum(rows) == 160)


def test_a_network_by_name_brings_its_images():
    colours = torch.tensor([[200, 0, 0], [0, 200, 0], [0, 0, 200]], dtype=torch.uint8).repeat_interleave(2, 0)
    photos = colours[:, None, None].repeat(1, 40, 60, 1)
    model = models.create("torchvision/resnet18", ways=3, seed=0)
    model.own_images = datasets.Transform(32, 3, mean=(0.5, 0.5, 0.5), deviation=(0.2, 0.2, 0.2))
    learner = adapt(model, (photos.numpy(), list("aabbcc")))
    assert learner.transform == model.own_images
    assert learner.predict(photos.numpy()[:1]) == learner.predict([photos.numpy()[0]])
    with pytest.raises(InputError, match=r"x\.permute\(0, 3, 1, 2\)"):
        adapt(model, (photos, list("aabbcc")))


class TestWhatIsWrong:
    def test_networks_by_name_have_weights(self, monkeypatch):
        made = []
        monkeypatch.setattr(models, "create", lambda name, **options: made.append((name, options)) or network_of(12))
        assert adapt("resnet18", task()).expected.held_out == 20
        assert made == [("resnet18", {"pretrained": True})]
        with pytest.raises(InputError, match="The network 'conv4' comes without weights, so its name alone cannot"):
            adapt("conv4", task())

    def test_a_learner_that_does_not_fit_is_told_of(self):
        with pytest.warns(MisfitWarning) as said:
            adapt(network_of(12), task(spread=3.0), algorithm="maml", lr=1e-4)
        assert re.fullmatch(
            r"MAML gets \d+ of its own 20 support examples right \(chance is 5\) after 1 step at lr=0.0001: expect no "
            r"more of new ones; take more steps or another lr, or adapt the plain model without algorithm=, which "
            r"chooses by itself\.",
            str(said[0].message),
        )
        assert said[0].filename == __file__

    def test_a_lower_rate_is_tried_where_none_was_asked_for(self):
        x, y = task(spread=0.3)
        learner = adapt(network_of(12), (100 * x, y), algorithm="maml", steps=20)
        assert learner.algorithm.lr < 0.5 and "was not fitted at the usual lr=0.5" in learner.why
        assert learner.score(100 * x, y) > 0.7

    def test_values_that_are_not_finite(self):
        x, y = task()
        with pytest.raises(
            InputError, match=r"values that are not finite in 'parameters/.*' \(lr is 1e\+30\); lower lr"
        ):
            adapt(network_of(12), (x, y), algorithm="maml", lr=1e30, steps=5)
        broken = network_of(12)
        with torch.no_grad():
            broken[0].weight[0, 0] = float("nan")
        with pytest.raises(
            InputError, match="Sequential gives features that are not finite; check its weights for NaN"
        ):
            adapt(broken, (x, y))
        with pytest.raises(InputError, match="'model.0.weight' is not finite before any adapting"):
            adapt(broken, (x, y), algorithm="finetune", lr=0.1)
        with pytest.raises(InputError, match="1 of the 20 targets are NaN or infinite"):
            adapt(
                models.create("mlp", inputs=12, seed=0), (x, torch.where(y + torch.arange(20) == 0, torch.nan, 1.0 * y))
            )
        with pytest.raises(InputError, match="hold NaN or infinite values"):
            adapt(network_of(12).half(), (1e6 * x, y))

    def test_half_precision(self):
        x, y = task()
        learner = adapt(network_of(12).half(), (x, y))
        assert learner.score(x, y) > 0.9 and learner(x).dtype == torch.float32
        assert adapt(network_of(12).bfloat16(), (x, y)).score(x, y) > 0.9

    def test_a_model_without_features(self):
        dead = nn.Sequential(nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 4))
        with torch.no_grad():
            dead[0].bias.fill_(-100)
        with pytest.raises(InputError, match=r"Sequential has no features: its embedding, of shape \[4\], is zero"):
            adapt(dead, task())

    def test_a_transductive_head_is_asked_for_one_query(self):
        x, y = task()
        for name in algorithms.names():
            if algorithms.get(name).transductive:
                learner = adapt(network_of(12), (x, y), algorithm=name)
                with pytest.warns(UserWarning, match="looks at all queries of a task together, and was asked for one"):
                    assert learner(x[:1]).shape == (1, 4)

    def test_labels_that_the_learner_does_not_know(self):
        learner = adapt(network_of(12), task())
        with pytest.raises(InputError, match="The label 9 is none of the learner's classes"):
            learner.score(task()[0][:1], [9])

    def test_a_split_with_features_has_no_mirror_image(self):
        split = Split(*task(shots=8), ["a", "b", "c", "d"])
        with pytest.raises(InputError, match=r"views=2 mirrors images, and an example has shape \[12\]; take views=1"):
            adapt(nn.Identity(), (split.x, split.y), views=2)
