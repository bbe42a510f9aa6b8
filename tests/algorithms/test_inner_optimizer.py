"""The inner loop's rule by name: Adam against torch's own, and whom it is not for."""

import pytest
import torch
from torch.nn import functional as F
from toy import noisy_net, points

from fewshot_kit import adapt, algorithms, engines, models
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

X, Y = points().x[:36:2], points().y[:36:2]


@pytest.mark.parametrize("name", ["maml", "boil", "anil"])
def test_adam_is_torchs_own(name):
    """Adapted parameters after four steps, in float64, those that stay included."""
    net = noisy_net().double().eval()
    algorithm = algorithms.create(name, model=net, lr=0.01, steps=4, optimizer="adam", batch_norm="running").eval()
    with torch.no_grad():
        adapted = algorithm.adapt(X.double(), Y)["parameters"]
    plain = noisy_net().double().eval()
    moving = {key: p for key, p in plain.named_parameters() if key in algorithm.adapts()}
    optimizer = torch.optim.Adam(moving.values(), lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        F.cross_entropy(plain(X.double()), Y).backward()
        optimizer.step()
    assert adapted.keys() == moving.keys()
    assert all(torch.allclose(adapted[key], p, atol=1e-6) for key, p in moving.items())


def test_the_engines_agree():
    y = torch.arange(3).repeat(2, 4)
    x = torch.rand(2, 12, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    found = []
    for engine in ("loop", "vmap"):
        algorithm = algorithms.create("boil", model=models.create("cnn", ways=3, hidden=4, image_size=14, seed=0),
                                      lr=1e-3, steps=2, optimizer="adam", first_order=True)  # fmt: skip
        engines.meta_backward(algorithm.double(), Episode(x.double(), y, x.double(), y), engine)
        found.append([p.grad for p in algorithm.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_whom_it_is_not_for():
    for name in ("meta_sgd", "maml_plus_plus", "meta_curvature", "finetune", "reptile", "meta_lstm"):
        with pytest.raises(InputError, match="has a rule of its own; leave optimizer='adam' out"):
            algorithms.create(name, model=noisy_net(), optimizer="adam")
    with pytest.raises(InputError, match="optimizer is 'rmsprop'; it must be one of sgd, adam"):
        algorithms.create("maml", model=noisy_net(), optimizer="rmsprop")
    for name in ("maml", "boil", "anil"):
        with pytest.raises(InputError, match="learners take plain steps, and optimizer is 'adam'"):
            algorithms.create(name, model=noisy_net(), optimizer="adam").clone()


def test_adapt_takes_it():
    learner = adapt(noisy_net(), (X, Y), algorithm="maml", optimizer="adam", lr=0.05, steps=30)
    assert learner.score(X, Y) > 0.8


def test_a_head_that_starts_smooth():
    """Neighbours differ far less than positions far apart; the seed decides it."""
    net = models.create("cnn", hidden=3, image_size=20, seed=0, smooth_head=True)
    weight = net.head.weight.detach().view(5, 3, 18, 18)
    step = (weight[..., 1:] - weight[..., :-1]).square().mean()
    assert step < 0.3 * weight.var() and torch.equal(net.head.bias.detach(), torch.zeros(5))
    again = models.create("cnn", hidden=3, image_size=20, seed=0, smooth_head=True)
    assert torch.equal(again.head.weight, net.head.weight)
    plain = models.create("cnn", hidden=3, image_size=20, seed=0)
    assert torch.equal(plain.convolutions[0].weight, net.convolutions[0].weight)


def test_the_heads_own_rate():
    """One step by hand: the head along its slope at head_lr, everything else at lr."""
    net = noisy_net().double().eval()
    maml = algorithms.create("maml", model=net, lr=0.01, head_lr=0.5, batch_norm="running").eval()
    slopes = torch.autograd.grad(F.cross_entropy(net(X.double()), Y), list(net.parameters()))
    adapted = maml.adapt(X.double(), Y)["parameters"]
    for (name, before), slope in zip(net.named_parameters(), slopes, strict=True):
        rate = 0.5 if name.startswith("4.") else 0.01
        assert torch.allclose(adapted[name], before - rate * slope, atol=1e-12), name


@pytest.mark.parametrize(
    "options, said",
    [
        ({"head_lr": -1}, "head_lr is -1"),
        ({"head_lr": 0.1, "optimizer": "adam"}, "head_lr is for plain steps, and optimizer is 'adam'"),
    ],
)
def test_a_head_lr_that_cannot_be(options, said):
    with pytest.raises(InputError, match=said):
        algorithms.create("maml", model=noisy_net(), **options)


def test_a_head_lr_needs_a_head_and_is_not_learn2learns():
    with pytest.raises(InputError, match="has no nn.Linear"):
        algorithms.create("maml", model=torch.nn.Conv2d(1, 3, 3), head_lr=0.1)
    with pytest.raises(InputError, match="learn2learn's learner has one rate"):
        algorithms.create("maml", model=noisy_net(), head_lr=0.1).clone()


@pytest.mark.parametrize("name", ["fomaml", "meta_sgd", "meta_curvature", "maml_plus_plus"])
def test_every_relative_of_maml_begins_at_the_heads_own_rate(name):
    """Rates that are learned, and matrices that start as the identity: the first step is that of MAML."""
    net = noisy_net().double()
    maml = algorithms.create("maml", model=net, lr=0.01, head_lr=0.5, steps=1)
    relative = algorithms.create(name, model=net, lr=0.01, head_lr=0.5, steps=1)
    expected, found = (each.eval().adapt(X.double(), Y)["parameters"] for each in (maml, relative))
    for parameter in relative.adapts():
        assert torch.allclose(found[parameter], expected[parameter], atol=1e-12), parameter


def test_a_learned_rule_has_no_head_lr():
    learned = algorithms.create("meta_lstm", model=noisy_net())
    assert learned.lr == 0.4 and not hasattr(learned, "head_lr")
