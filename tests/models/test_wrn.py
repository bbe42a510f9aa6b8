"""Wide ResNet 28-10 against its description: sizes counted by hand, and the forward pass written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot_kit import models
from fewshot_kit.errors import InputError


def block_parameters(inputs: int, outputs: int) -> int:
    """Two batch norms, two 3x3 convolutions and, where the channels change, the 1x1 one; no convolution has a bias."""
    shortcut = inputs * outputs if inputs != outputs else 0
    return 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2 + shortcut


def test_cifar_10s_has_36_5_million_parameters() -> None:
    net = models.create("wrn28_10", ways=10, channels=3)
    widths = [16, *[160] * 4, *[320] * 4, *[640] * 4]
    count = 9 * 3 * 16 + sum(map(block_parameters, widths, widths[1:])) + 2 * 640 + 640 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == count == 36_479_194
    assert net.head.in_features == 640


def test_depth_and_width() -> None:
    net = models.create("wrn28_10", depth=16, width=2, channels=1, ways=3)
    widths = [16, 32, 32, 64, 64, 128, 128]
    count = 9 * 16 + sum(map(block_parameters, widths, widths[1:])) + 2 * 128 + 128 * 3 + 3
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize(("channels", "image_size"), [(1, 28), (3, 84), (1, 5)])
def test_image_sizes(channels: int, image_size: int) -> None:
    net = models.create("wrn28_10", depth=10, width=1, ways=4, channels=channels)
    assert net(torch.rand(2, channels, image_size, image_size)).shape == (2, 4)


def active(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """ReLU of batch norm by the batch, from its definition."""
    centred = x - x.mean((0, 2, 3), keepdim=True)
    z = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    return (z * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]).clamp(min=0)


def test_the_forward_pass_written_out() -> None:
    """Two blocks a group; width 1, so that the first group keeps its 16 channels."""
    net = models.create("wrn28_10", depth=16, width=1, ways=3, channels=2, seed=0).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):  # no scale of 1, no shift of 0
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel()) + number).view_as(parameter))
    w = net.state_dict()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 2, 14, 14, generator=generator, dtype=torch.float64)
    x = F.conv2d(images, w["stem.weight"], padding=1)
    for number, stride in enumerate((1, 1, 2, 1, 2, 1)):
        block = f"blocks.{number}"
        a = active(x, w, f"{block}.norm1")
        y = F.conv2d(a, w[f"{block}.conv1.weight"], stride=stride, padding=1)
        y = F.conv2d(active(y, w, f"{block}.norm2"), w[f"{block}.conv2.weight"], padding=1)
        widened = stride == 2
        assert (f"{block}.shortcut.weight" in w) == widened
        x = y + (F.conv2d(a, w[f"{block}.shortcut.weight"], stride=2) if widened else x)
    assert x.shape == (4, 64, 4, 4)  # 14 -> 7 -> 4
    features = active(x, w, "norm").sum((2, 3)) / 16
    torch.testing.assert_close(net(images), features @ w["head.weight"].T + w["head.bias"])


def test_convolutions_start_as_he_et_al() -> None:
    weight = models.create("wrn28_10", depth=10, seed=0).blocks[2].conv2.weight  # 3.7 million values
    assert weight.std().item() == pytest.approx((2 / (9 * 640)) ** 0.5, rel=0.01)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"depth": 27},
            "The model 'wrn28_10' cannot have depth=27; it must be 6n \\+ 4, such as 10, 16, 22 or 28.",
        ),
        ({"depth": 4}, "cannot have depth=4; it must be 6n"),
        ({"width": 0}, "The model 'wrn28_10' cannot have width=0; it must be a whole number of at least 1."),
        ({"ways": 2.0}, "'wrn28_10' cannot have ways=2.0"),
        ({"hidden": 8}, r"has no option 'hidden'\. .*made as wrn28_10\(ways=5, channels=1, depth=28, width=10"),
    ],
)
def test_wrong_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        models.create("wrn28_10", **options)


def test_a_seed_decides_the_weights_and_nothing_else() -> None:
    before = torch.get_rng_state()
    first, again, other = (models.create("wrn28_10", depth=10, width=1, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.weight"], other["stem.weight"])
