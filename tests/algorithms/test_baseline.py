"""Classes learned as classes: the draw, the loss, batch norm, and what comes of it."""

import copy

import pytest
import torch
from small_runs import KillAt, Killed, same, train
from torch import nn
from torch.nn import functional as F
from toy import noisy_net, points, world

from fewshot_kit import algorithms, datasets, evaluate, load, meta_train, models
from fewshot_kit.datasets import Split
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

KINDS = pytest.mark.parametrize("name", ["baseline", "baseline_plus_plus"])


def make(name="baseline", classes=8, **options):
    torch.manual_seed(0)
    return algorithms.create(name, model=noisy_net(), classes=classes, batch=16, **options)


def labelled(algorithm, split=None):
    return algorithm.draw(split or points(), 3, 1, 2, 2, torch.Generator().manual_seed(0), torch.device("cpu"))


def test_labels_are_those_of_the_images():
    """Every image and every turn, each with its own number among `classes`."""
    x = torch.arange(6 * 4, dtype=torch.float32).view(6, 1, 2, 2)
    split = Split(x, torch.tensor([0, 0, 1, 1, 2, 2]), ["a", "b", "c"], rotations="classes")
    seen, y = split.labelled(400, torch.Generator().manual_seed(0))
    for image, label in zip(seen, y.tolist(), strict=True):
        turned = [x[number].rot90(label // 3, (-2, -1)) for number in range(6) if split.y[number] == label % 3]
        assert any(torch.equal(image, each) for each in turned)
        assert split.classes[label].startswith("abc"[label % 3])
    counts = y.bincount(minlength=12)
    assert counts.min() > 15 and counts.max() < 60  # 33 each
    assert y.max() == 11


@pytest.mark.parametrize("rotations", ["none", "per_class"])
def test_turns_that_are_no_classes_leave_the_label(rotations):
    x = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    split = Split(x, torch.tensor([0, 0, 1, 1, 2, 2]), ["a", "b", "c"], rotations=rotations)
    seen, y = split.labelled(60, torch.Generator().manual_seed(0))
    upright = sum(any(torch.equal(image, each) for each in x) for image in seen)
    assert y.max() == 2 and (upright == 60 if rotations == "none" else upright < 40)


def test_a_meta_batch_is_labelled_batches():
    found = labelled(make())
    assert found.query_x.shape == (2, 16, 6) and found.query_y.shape == (2, 16) and found.support_x.shape == (2, 0, 6)


def test_the_loss_is_smoothed_cross_entropy():
    algorithm = make(smoothing=0.2).eval()
    x, y = labelled(algorithm)[2:]
    loss, scores = algorithm.loss(Episode(x[0][:0], y[0][:0], x[0], y[0]))
    body = copy.deepcopy(algorithm.model).eval()
    body[1].train()  # batch norm goes by the batch, dropout is off
    expected = algorithm.classifier(body(x[0]))
    assert torch.allclose(scores, expected, atol=1e-6)
    assert torch.allclose(loss, F.cross_entropy(expected, y[0], label_smoothing=0.2), atol=1e-6)


def test_baseline_plus_plus_scores_by_cosine():
    algorithm = make("baseline_plus_plus", scale=5.0)
    features = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    weights = algorithm.classifier.weight.detach()
    expected = [[5 * float(F.cosine_similarity(f, w, dim=0)) for w in weights] for f in features]
    assert torch.allclose(algorithm.classify(features).detach(), torch.tensor(expected), atol=1e-5)


def test_training_moves_the_stored_statistics_as_pytorch_does():
    algorithm = make()
    x = labelled(algorithm).query_x[0]
    plain = copy.deepcopy(algorithm.model).train()
    plain(x)
    algorithm.train().loss(Episode(x[:0], torch.zeros(0, dtype=torch.int64), x, torch.zeros(16, dtype=torch.int64)))
    assert torch.equal(algorithm.model[1].running_mean, plain[1].running_mean)
    assert torch.equal(algorithm.model[1].running_var, plain[1].running_var)
    assert algorithm.batch_norm == "running"


@KINDS
def test_it_learns_and_every_parameter_takes_part(name):
    algorithm = make(name)
    before = {key: p.detach().clone() for key, p in algorithm.named_parameters()}
    untrained = evaluate(algorithm, world().test, ways=3, shots=2, queries=4, episodes=40).mean
    result = train(algorithm, iterations=60, meta_lr=0.01)
    assert sum(line["accuracy"] for line in result.history[-10:]) / 10 > 0.5  # of 8 classes
    moved = {key for key, p in algorithm.named_parameters() if not torch.equal(p, before[key])}
    unused = {"classifier.bias"} if name == "baseline_plus_plus" else set()
    assert moved == set(before) - unused
    assert evaluate(algorithm, world().test, ways=3, shots=2, queries=4, episodes=40).mean > untrained - 0.05


@KINDS
def test_a_killed_run_goes_on_to_the_same_bits(name, tmp_path):
    whole, killed = make(name), make(name)
    train(whole, iterations=10, run=tmp_path / "whole")
    with pytest.raises(Killed):
        train(killed, iterations=10, run=tmp_path / "killed", hooks=[KillAt(6)])
    again = make(name)
    train(again, iterations=10, run=tmp_path / "killed", resume=True)
    assert same(whole, again)
    loaded = load(tmp_path / "killed", algorithm=make(name))
    assert same(loaded, whole)


def test_real_characters_are_told_apart_better_than_before(data_root):
    data = datasets.create("futurama", root=data_root, rotations="classes")
    algorithm = algorithms.create("baseline", model=models.create("conv4", hidden=16, seed=0), classes=64)
    settings = {"ways": 5, "shots": 1, "episodes": 40}
    plain = algorithms.create("logistic", model=models.create("conv4", hidden=16, seed=0))
    before = evaluate(plain, data.test, **settings).mean
    meta_train(
        algorithm, data, iterations=120, meta_batch=1, meta_lr=0.01, augmentation="strokes",
        engine="loop", progress=False,
    )  # fmt: skip
    assert evaluate(algorithm, data.test, **settings).mean > before + 0.1


def test_what_it_needs_is_said():
    with pytest.raises(InputError, match=r"Baseline was made for 5 training classes and train has 8; .* classes=8"):
        train(make(classes=5), iterations=1)
    with pytest.raises(InputError, match="Baseline was not told training classes and train has 8"):
        train(make(classes=None), iterations=1)
    with pytest.raises(InputError, match="Flatten has no linear head to tell how many features it gives"):
        algorithms.create("baseline", model=nn.Flatten(), classes=3)
    with pytest.raises(InputError, match="smoothing is 1"):
        make(smoothing=1)
    with pytest.raises(InputError, match="batch is 0"):
        algorithms.create("baseline", model=noisy_net(), classes=3, batch=0)
