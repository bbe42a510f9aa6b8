"""Networks: shapes, sizes counted by hand, and the same weights for the same seed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import models
from fewshot_kit.errors import InputError

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
        ("cnn", {"ways": 0}, "'cnn' cannot have ways=0; it must be a whole number, 1 or more"),
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
