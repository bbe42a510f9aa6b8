"""Networks: shapes, sizes counted by hand, and the same weights for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, engines, models
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.errors import InputError
from fewshot_kit.modules.heads import find_head

IMAGE_NETS = ["cnn", "conv4", "omniglot_fc", "resnet"]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", IMAGE_NETS)
@pytest.mark.parametrize(("channels", "image_size", "ways"), [(1, 28, 5), (3, 20, 2), (1, 17, 20)])
def test_scores_have_one_column_per_way(name: str, channels: int, image_size: int, ways: int) -> None:
    net = models.create(name, ways=ways, channels=channels, image_size=image_size)
    assert net(torch.rand(3, channels, image_size, image_size)).shape == (3, ways)
    assert net.double()(torch.rand(3, channels, image_size, image_size, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(("downsample", "image_size"), [("stride", 84), ("stride", 7), ("pool", 84), ("pool", 16)])
def test_conv4_takes_other_image_sizes(downsample: str, image_size: int) -> None:
    net = models.create("conv4", ways=4, channels=3, hidden=8, image_size=image_size, downsample=downsample)
    assert net(torch.rand(2, 3, image_size, image_size)).shape == (2, 4)


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 1)])
def test_mlp_takes_examples_of_any_shape(shape: tuple[int, ...]) -> None:
    assert models.create("mlp", inputs=3, ways=2)(torch.rand(shape)).shape == (6, 2)
    assert models.create("mlp")(torch.rand(6)).shape == (6, 1)


# Weights and biases, layer by layer.
CONV_32 = (9 * 1 * 32 + 32) + 3 * (9 * 32 * 32 + 32)
CONV_64_BN = (9 * 1 * 64 + 64) + 3 * (9 * 64 * 64 + 64) + 4 * 2 * 64
FC = (784 * 256 + 256) + (256 * 128 + 128) + (128 * 64 + 64) + (64 * 64 + 64) + 2 * (256 + 128 + 64 + 64)


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("cnn", {}, CONV_32 + 32 * 26 * 26 * 5 + 5),
        ("resnet", {"ways": 3}, CONV_32 + 32 * 26 * 26 * 3 + 3),
        ("conv4", {}, CONV_64_BN + 64 * 5 + 5),
        ("conv4", {"downsample": "pool"}, CONV_64_BN + 64 * 5 + 5),  # 28 -> 14 -> 7 -> 3 -> 1: one pixel is left
        ("conv4", {"downsample": "pool", "image_size": 84}, CONV_64_BN + 64 * 25 * 5 + 5),  # 84 -> 42 -> 21 -> 10 -> 5
        ("omniglot_fc", {}, FC + 64 * 5 + 5),
        ("mlp", {}, (40 + 40) + (40 * 40 + 40) + (40 + 1)),
        ("mlp", {"inputs": 3, "ways": 2, "hidden": []}, 3 * 2 + 2),
    ],
)
def test_parameters_counted_by_hand(name: str, options: dict[str, object], count: int) -> None:
    assert parameters(models.create(name, **options)) == count


def test_cnn_and_resnet_differ_by_the_identity_connections() -> None:
    cnn, resnet = models.CNN(seed=0).double(), models.ResNet(seed=0).double()
    p = resnet.state_dict()
    assert all(torch.equal(p[name], value) for name, value in cnn.state_dict().items())
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    for net, skip in ((cnn, 0.0), (resnet, 1.0)):
        h = F.silu(F.conv2d(x, p["convolutions.0.weight"], p["convolutions.0.bias"], padding=1))
        for i in (1, 2, 3):
            h = skip * h + F.silu(F.conv2d(h, p[f"convolutions.{i}.weight"], p[f"convolutions.{i}.bias"], padding=1))
        expected = F.max_pool2d(h, 3, 1).reshape(2, -1) @ p["head.weight"].T + p["head.bias"]
        torch.testing.assert_close(net(x), expected)


def test_conv4_stride_averages_over_the_image() -> None:
    net = models.Conv4(seed=0)
    h = torch.rand(2, 1, 28, 28)
    x = h
    for conv, norm, relu in net.blocks:
        h = relu(norm(F.conv2d(h, conv.weight, conv.bias, stride=2, padding=1)))
    assert h.shape == (2, 64, 2, 2)
    torch.testing.assert_close(net(x), h.sum((2, 3)) / 4 @ net.head.weight.T + net.head.bias)


@pytest.mark.parametrize("name", [*IMAGE_NETS, "mlp"])
def test_a_seed_decides_the_weights_and_nothing_else(name: str) -> None:
    before = torch.get_rng_state()
    first, again, other = (models.create(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])
    models.create(name)  # without a seed: drawn from the global RNG, as by any module
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("cnn", {"ways": 0}, "'cnn' cannot have ways=0; it must be a whole number of at least 1"),
        ("conv4", {"channels": 1.5}, "'conv4' cannot have channels=1.5"),
        ("mlp", {"hidden": (40, -1)}, "'mlp' cannot have hidden=-1"),
        ("mlp", {"inputs": 0, "hidden": ()}, "'mlp' cannot have inputs=0"),
        ("cnn", {"image_size": 2}, "2x2 are smaller than the 3x3 max-pool"),
        ("conv4", {"downsample": "none"}, "no downsample='none'; it is 'stride' or 'pool'"),
        ("conv4", {"downsample": "pool", "image_size": 15}, "15x15 are too small .* need 16x16"),
        ("conv4", {"width": 8}, r"no option 'width'\..*made as conv4\(ways=5, channels=1, hidden=64"),
    ],
)
def test_wrong_options(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        models.create(name, **options)


def test_conv4_of_mini_imagenet() -> None:
    """The two published ones: MAML's with 32 channels and 800 features, the metric networks' with 64 and 1600."""
    for hidden, features in ((32, 800), (64, 1600)):
        net = models.create("conv4", ways=5, channels=3, hidden=hidden, image_size=84, downsample="pool")
        convolutions = (9 * 3 * hidden + hidden) + 3 * (9 * hidden * hidden + hidden) + 4 * 2 * hidden
        assert net.head.in_features == features
        assert parameters(net) == convolutions + features * 5 + 5
        assert net(torch.rand(2, 3, 84, 84)).shape == (2, 5)


# Small ones of each kind of network, and the name of the head.
SMALL: dict[str, tuple[dict[str, object], str]] = {
    "resnet12": ({"hidden": [2, 3, 4, 5], "image_size": 16}, "head"),
    "wrn28_10": ({"depth": 10, "width": 1}, "head"),
    "torchvision/mobilenet_v2": (
        {"width_mult": 0.2, "inverted_residual_setting": [[1, 8, 1, 1], [2, 8, 2, 2]], "dropout": 0.0},
        "classifier.1",
    ),
}
EACH = pytest.mark.parametrize("name", SMALL)


def small(name: str) -> nn.Module:
    return models.create(name, ways=2, channels=1, seed=1, **SMALL[name][0]).double()


def meta_batch(tasks: int = 2, shots: int = 3, queries: int = 2) -> Episode:
    generator = torch.Generator().manual_seed(0)
    y = [torch.arange(2).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.rand(tasks, 2 * n, 1, 16, 16, generator=generator, dtype=torch.float64) for n in (shots, queries)]
    return Episode(x[0], y[0], x[1], y[1])


@EACH
@pytest.mark.parametrize(
    ("algorithm", "policy"),
    [
        ("maml", "transductive"),
        ("maml", "support"),
        ("anil", "transductive"),
        ("protonet", "support"),
        ("protonet", "running"),
    ],
)
def test_loop_and_vmap_give_the_same(name: str, algorithm: str, policy: str) -> None:
    rate = {} if algorithm == "protonet" else {"lr": 0.05}
    made = algorithms.create(algorithm, model=small(name), batch_norm=policy, **rate).train()
    found = []
    for engine in ("loop", "vmap"):
        made.zero_grad()
        losses, scores = engines.meta_backward(made, meta_batch(), engine)
        found.append([losses, scores, *(p.grad.clone() for p in made.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@EACH
@pytest.mark.parametrize("algorithm", ["maml", "protonet"])
def test_only_a_transductive_query_sees_the_others(name: str, algorithm: str) -> None:
    [task] = unstack(meta_batch(1))
    for policy in ("transductive", "support", "running"):
        made = algorithms.create(algorithm, model=small(name), batch_norm=policy).eval()
        state = made.adapt(task.support_x, task.support_y)
        three, two = (made.predict(state, task.query_x[:n])[:2] for n in (3, 2))
        assert torch.allclose(three, two, rtol=1e-9) == (policy != "transductive")


@EACH
def test_the_embedding_is_what_enters_the_head(name: str) -> None:
    net = small(name).eval()
    head = SMALL[name][1]
    assert find_head(net) == head
    entered: list[torch.Tensor] = []
    net.get_submodule(head).register_forward_hook(lambda _, inputs, output: entered.append(inputs[0]))
    images = meta_batch(1).query_x[0]
    net(images)
    embedding = algorithms.create("protonet", model=net).model
    torch.testing.assert_close(embedding(images), entered[0])
