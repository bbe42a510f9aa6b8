"""ResNet-12 against its description: sizes counted by hand, and the forward pass written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from fewshot_kit import models
from fewshot_kit.errors import InputError


def block_parameters(inputs: int, outputs: int) -> int:
    """Three 3x3 convolutions and the 1x1 one, without bias; a scale and a shift for the four batch norms."""
    return 9 * inputs * outputs + 2 * 9 * outputs**2 + inputs * outputs + 4 * 2 * outputs


@pytest.mark.parametrize("widths", [(64, 160, 320, 640), (64, 128, 256, 512)])
def test_parameters_counted_by_hand(widths: tuple[int, ...]) -> None:
    net = models.create("resnet12", ways=5, channels=3, hidden=widths, image_size=84)
    body = sum(map(block_parameters, (3, *widths), widths))
    assert sum(p.numel() for p in net.parameters()) == body + widths[-1] * 5 + 5


def test_the_standard_one_has_12_4_million_parameters() -> None:
    net = models.create("resnet12", channels=3, image_size=84)
    assert sum(p.numel() for name, p in net.named_parameters() if not name.startswith("head.")) == 12_424_320
    assert net.head.in_features == 640


def test_one_width_stands_for_four() -> None:
    net = models.create("resnet12", hidden=5)
    assert [block.body[0].out_channels for block in net.blocks] == [5, 12, 25, 50]


@pytest.mark.parametrize(("channels", "image_size"), [(1, 28), (3, 84), (3, 16)])
def test_image_sizes(channels: int, image_size: int) -> None:
    net = models.create("resnet12", ways=4, channels=channels, hidden=4, image_size=image_size)
    assert net(torch.rand(2, channels, image_size, image_size)).shape == (2, 4)


def normed(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Batch norm by the batch, from its definition."""
    centred = x - x.mean((0, 2, 3), keepdim=True)
    z = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    return z * weights[f"{name}.weight"][:, None, None] + weights[f"{name}.bias"][:, None, None]


def test_the_forward_pass_written_out() -> None:
    net = models.create("resnet12", ways=3, channels=2, hidden=[3, 4, 5, 6], image_size=37, seed=0).double()
    with torch.no_grad():
        for number, parameter in enumerate(net.parameters()):  # no scale of 1, no shift of 0
            parameter.add_(0.1 * torch.sin(torch.arange(parameter.numel()) + number).view_as(parameter))
    w = net.state_dict()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 2, 37, 37, generator=generator, dtype=torch.float64)
    x = images
    for block in (f"blocks.{number}" for number in range(4)):
        y = x
        for convolution, norm in ((0, 1), (3, 4), (6, 7)):
            y = normed(F.conv2d(y, w[f"{block}.body.{convolution}.weight"], padding=1), w, f"{block}.body.{norm}")
            y = torch.where(y > 0, y, 0.1 * y) if norm < 7 else y
        y = y + normed(F.conv2d(x, w[f"{block}.shortcut.0.weight"]), w, f"{block}.shortcut.1")
        x = torch.where(y > 0, y, 0.1 * y).unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    assert x.shape == (4, 6, 2, 2)  # 37 -> 18 -> 9 -> 4 -> 2
    torch.testing.assert_close(net(images), x.sum((2, 3)) / 4 @ w["head.weight"].T + w["head.bias"])


def test_convolutions_start_as_he_et_al() -> None:
    net = models.create("resnet12", seed=0)
    weight = net.blocks[3].body[3].weight  # 3.7 million values
    assert weight.std().item() == pytest.approx((2 / (9 * 640)) ** 0.5, rel=0.01)
    assert weight.mean().abs() < 1e-4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"image_size": 15},
            "Images of 15x15 are too small for the four 2x2 max-pools of 'resnet12', which need 16x16",
        ),
        ({"hidden": 0}, "The model 'resnet12' cannot have hidden=0; it must be a whole number of at least 1."),
        ({"hidden": [8, 8, -1, 8]}, "The model 'resnet12' cannot have hidden=-1;"),
        (
            {"hidden": (8, 8, 8)},
            r"The model 'resnet12' has four blocks, and hidden=\(8, 8, 8\) holds 3 widths; give four, or the first one "
            "as a number.",
        ),
        ({"ways": 0}, "'resnet12' cannot have ways=0"),
        ({"channels": 1.0}, "'resnet12' cannot have channels=1.0"),
    ],
)
def test_wrong_options(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        models.create("resnet12", **options)


def test_a_seed_decides_the_weights_and_nothing_else() -> None:
    before = torch.get_rng_state()
    first, again, other = (models.create("resnet12", hidden=2, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["blocks.0.body.0.weight"], other["blocks.0.body.0.weight"])
