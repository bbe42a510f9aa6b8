"""Relation networks: what is compared, and the relation module stated in NumPy."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import adapt, algorithms, engines, models
from fewshot_kit.algorithms.relation_net import last_maps, map_channels, relation_error
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

RANDOM = np.random.default_rng(0)
X, QUERY, Y = RANDOM.normal(size=(5, 3)), RANDOM.normal(size=(4, 3)), np.array([0, 1, 0, 2, 1])


def make(model, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return algorithms.create("relation_net", model=model, **options).double()


def images(count, side=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, side, side, generator=generator, dtype=torch.float64)


def pairs_of(relation_net, state, x):
    """What the relation module is handed, pairs first."""
    seen = []
    with relation_net.relation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
        relation_net.predict(state, x)
    return seen[0]


def weights(module):
    return [parameter.detach().numpy() for parameter in module.parameters()]


def scored(h, module):
    """The last two layers, with ReLU between them."""
    w, b, v, c = weights(module)
    return (np.maximum(h @ w.T + b, 0) @ v.T + c)[:, 0]


def test_vectors_against_numpy():
    relation_net = make(nn.Identity(), width=3, hidden=6)
    state = relation_net.adapt(torch.tensor(X), torch.tensor(Y))
    means = np.array([(X[0] + X[2]) / 2, (X[1] + X[4]) / 2, X[3]])
    np.testing.assert_allclose(state["means"], means, rtol=1e-12)
    pairs = np.array([np.concatenate([own, query]) for query in QUERY for own in means])
    w, b = weights(relation_net.relation[0])
    expected = scored(np.maximum(pairs @ w.T + b, 0), relation_net.relation[2:]).reshape(4, 3)
    found = relation_net.predict(state, torch.tensor(QUERY)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found.std() > 1e-3


def test_maps_are_averaged_over_the_shots_and_laid_on_the_query():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten(), nn.Linear(18, 3)).double()
    relation_net, x, query = make(model, hidden=4), images(5, 3), images(2, 3, seed=1)
    state = relation_net.adapt(x, torch.tensor(Y))
    w, b = (array.reshape(1, 2, 1, 1) for array in weights(model[0]))
    maps, query_maps = x.numpy() * w + b, query.numpy() * w + b
    means = np.stack([(maps[0] + maps[2]) / 2, (maps[1] + maps[4]) / 2, maps[3]])
    np.testing.assert_allclose(state["means"].detach(), means, rtol=1e-12)
    pairs = pairs_of(relation_net, state, query).detach().numpy()
    assert pairs.shape == (6, 4, 3, 3)
    for number, pair in enumerate(pairs):
        np.testing.assert_allclose(pair, np.concatenate([means[number % 3], query_maps[number // 3]]), rtol=1e-12)


def test_maps_of_one_pixel_against_numpy():
    """There a padded convolution is its middle weight, and group norm one over the channels."""
    relation_net = make(nn.Sequential(nn.Conv2d(3, 3, 1)).double(), hidden=6)
    pairs = RANDOM.normal(size=(4, 6))
    h = pairs
    for convolution, norm, _ in relation_net.relation.blocks:
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(0.5, 1.5, 6))
            norm.bias.copy_(torch.linspace(0.3, -0.3, 6))
        (w, b), (gain, offset) = weights(convolution), weights(norm)
        h = h @ w[:, :, 1, 1].T + b
        h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        h = np.maximum(h * gain + offset, 0)
    found = relation_net.relation(torch.tensor(pairs)[:, :, None, None]).detach()
    np.testing.assert_allclose(found, scored(h, relation_net.relation.score), rtol=1e-9)


@pytest.mark.parametrize(
    "side, inner", [((1, 1), (1, 1)), ((2, 2), (1, 1)), ((3, 5), (1, 2)), ((1, 4), (1, 2)), ((10, 10), (5, 5))]
)
def test_only_sides_longer_than_one_are_pooled(side, inner):
    relation = make(nn.Conv2d(1, 2, 1), hidden=4).relation
    seen = []
    with relation.blocks[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape)):
        assert relation(torch.rand(7, 4, *side, dtype=torch.float64)).shape == (7,)
    assert seen == [(7, 4, *inner)]


def test_the_error_is_squared_against_one_hot():
    scores, targets = torch.tensor([[0.9, 0.2], [0.5, 0.4]], dtype=torch.float64).logit(), torch.tensor([0, 1])
    expected = (0.1**2 + 0.2**2 + 0.5**2 + 0.6**2) / 4
    assert relation_error(scores, targets).item() == pytest.approx(expected)
    relation_net = make(nn.Identity(), width=3)
    episode = Episode(torch.tensor(X), torch.tensor(Y), torch.tensor(QUERY), torch.tensor([0, 1, 2, 1]))
    loss, scores = relation_net.loss(episode)
    assert loss.item() == pytest.approx(((scores.sigmoid() - torch.eye(3)[[0, 1, 2, 1]]) ** 2).mean().item())
    relation_net = make(nn.Identity(), width=3, criterion=F.cross_entropy)
    loss, scores = relation_net.loss(episode)
    assert loss.item() == pytest.approx(F.cross_entropy(scores, episode.query_y).item())


def test_the_order_of_examples_and_of_classes():
    relation_net = make(models.create("conv4", ways=3, hidden=4, image_size=14, seed=0).double())
    x, y, query = images(6), torch.tensor([0, 1, 2] * 2), images(4, seed=1)
    scores = relation_net.predict(relation_net.adapt(x, y), query)
    order, classes = torch.tensor([4, 2, 0, 5, 1, 3]), torch.tensor([2, 0, 1])
    shuffled = relation_net.predict(relation_net.adapt(x[order], y[order]), query)
    torch.testing.assert_close(shuffled, scores)
    renamed = relation_net.predict(relation_net.adapt(x, classes[y]), query)
    torch.testing.assert_close(renamed[:, classes], scores)


class Pooled(nn.Module):
    """Ends with batch norm and, inside a container, an adaptive pool."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1))

    def forward(self, x):
        return self.head(self.pool(self.bn(self.conv(x))).flatten(1))


def test_which_maps_are_compared():
    conv4, x = models.create("conv4", hidden=6, image_size=28, downsample="pool", seed=0), torch.rand(2, 1, 28, 28)
    with last_maps(conv4, None) as seen:
        conv4(x)
    assert seen[0].shape == (2, 6, 1, 1) and torch.equal(seen[0], conv4.blocks(x))
    with last_maps(conv4, "blocks.1") as seen:
        conv4(x)
    assert seen[0].shape == (2, 6, 7, 7)
    with last_maps(net := Pooled(), None) as seen:
        net(x)
    assert seen[0].shape == (2, 4, 13, 13)  # not what the pool leaves of them
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in [*conv4.modules(), *net.modules()])


def test_image_models_get_the_convolutional_module_and_others_the_linear_one():
    assert map_channels(models.create("conv4", hidden=6).blocks) == 6
    assert map_channels(nn.Sequential(nn.Conv2d(1, 5, 3), nn.GroupNorm(1, 5), nn.PReLU())) == 5
    assert map_channels(nn.Sequential(nn.Conv2d(1, 5, 3), nn.Flatten(), nn.Linear(5, 4))) is None
    assert map_channels(nn.Identity()) is None
    mlp = make(models.create("mlp", inputs=3, ways=2, hidden=[7], seed=0).double())
    state = mlp.adapt(torch.tensor(X), torch.tensor(Y))
    assert state["means"].shape == (3, 7) and mlp.predict(state, torch.tensor(QUERY)).shape == (4, 3)
    named = make(models.create("conv4", hidden=6, image_size=28, seed=0).double(), maps="blocks.1")
    assert named.adapt(images(3, 28), torch.arange(3))["means"].shape == (3, 6, 7, 7)


def test_batch_norm_by_the_support_set_reaches_the_maps():
    relation_net, x, query = make(Pooled().double(), batch_norm="support"), images(6), images(5, seed=1)
    state = relation_net.adapt(x, torch.arange(3).repeat(2))
    conv, norm = relation_net.model.conv, relation_net.model.bn
    mean, variance = (pick(conv(x), (0, 2, 3), keepdim=True) for pick in (torch.mean, _variance))
    expected = (conv(query) - mean) / (variance + norm.eps).sqrt()
    torch.testing.assert_close(pairs_of(relation_net, state, query)[::3, 4:], expected)
    torch.testing.assert_close(relation_net.predict(state, query)[:1], relation_net.predict(state, query[:1]))


def _variance(x, over, keepdim):
    return x.var(over, unbiased=False, keepdim=keepdim)


@pytest.mark.parametrize("policy", ["transductive", "support", "running"])
def test_every_engine_gives_the_same(policy):
    relation_net = make(models.create("conv4", ways=3, hidden=4, image_size=28, seed=0), batch_norm=policy)
    before = {name: buffer.clone() for name, buffer in relation_net.named_buffers()}
    generator = torch.Generator().manual_seed(0)
    x = [torch.rand(3, n, 1, 28, 28, generator=generator, dtype=torch.float64) for n in (6, 9)]
    y = [torch.arange(3).repeat_interleave(n).repeat(3, 1) for n in (2, 3)]
    found = []
    for engine in ("loop", "vmap"):
        own = copy.deepcopy(relation_net)
        engines.meta_backward(own, Episode(x[0], y[0], x[1], y[1]), engine)
        found.append([p.grad for p in own.parameters()] + list(own.buffers()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    kept = all(torch.equal(before[name], buffer) for name, buffer in own.named_buffers())
    assert kept == (policy != "running")  # training moves the stored statistics where queries are to use them


def test_other_options_of_an_algorithm_that_is_made():
    relation_net = make(models.create("conv4", hidden=6, image_size=28, seed=0).double())
    assert adapt(relation_net, (images(3, 28), list("abc")), maps="blocks.2").state["means"].shape == (3, 6, 4, 4)
    with pytest.raises(InputError, match="RelationNet is made with its hidden, which cannot be replaced later"):
        adapt(relation_net, (images(3, 28), list("abc")), hidden=3)


@pytest.mark.parametrize(
    "model, options, message",
    [
        (nn.Identity(), {}, "Identity has no linear head; say how wide its embedding is, as width=64."),
        (nn.Identity(), {"width": 3, "hidden": 0}, "hidden is 0; it must be a whole number of at least 1."),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1)),
            {"maps": "body"},
            "Sequential has no module 'body'; it has 0.",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU()),
            {"maps": "1"},
            "The module '1' does not end with a convolution or a batch norm of images, by which the channels of its "
            "maps are known; name one that does.",
        ),
    ],
)
def test_options_that_cannot_be(model, options, message):
    with pytest.raises(InputError) as raised:
        make(model, **options)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "model, options, message",
    [
        (
            nn.Sequential(nn.Conv2d(1, 4, 1), nn.PixelShuffle(2)),
            {},
            "The features to compare have 1 channels and the relation module was made for 4; say what to compare when "
            "making it, as maps='blocks.3'.",
        ),
        (
            nn.Flatten(),
            {"width": 3},
            "The features to compare have 196 values and the relation module was made for 3; say what to compare when "
            "making it, as width=196.",
        ),
    ],
)
def test_maps_that_are_not_what_was_expected(model, options, message):
    with pytest.raises(InputError) as raised:
        make(model.double(), **options).adapt(images(3), torch.arange(3))
    assert str(raised.value) == message


def test_a_model_that_shows_no_maps_and_queries_of_another_size():
    class Folded(nn.Module):
        """Convolves rows that it makes of the image itself, and folds them up at once."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 1)

        def forward(self, x):
            return F.conv2d(x, self.conv.weight, self.conv.bias).flatten(1)

    with pytest.raises(InputError) as raised:
        make(Folded().double()).adapt(images(3), torch.arange(3))
    assert str(raised.value) == (
        "Folded has shown no maps [N, C, H, W]; name the module that gives them, as maps='blocks.3'."
    )
    relation_net = make(models.create("conv4", hidden=4, seed=0).double())
    state = relation_net.adapt(images(3, 28), torch.arange(3))
    with pytest.raises(InputError) as raised:
        relation_net.predict(state, images(2, 56))
    assert str(raised.value) == (
        "The support set's features have shape [4, 2, 2] and the query's [4, 4, 4]; give examples of one size."
    )
