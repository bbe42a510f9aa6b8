"""The residual network of few-shot learning on mini-ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .initial_weights import he_normal, initial_weights

SLOPE = 0.1  # slope of LeakyReLU below zero


@register("resnet12")
class ResNet12(nn.Module):
    """Four residual blocks of three 3x3 convolutions, each halving the image, then a linear head.

    `[N, channels, image_size, image_size]` -> scores `[N, ways]`. A block of input x is
    max_pool(LeakyReLU(f(x) + g(x))). f is three 3x3 convolutions, each with batch norm and the first two with LeakyReLU
    (slope 0.1). g is a 1x1 convolution with batch norm. The max-pool is 2x2. The head sees the mean over the image.
    For mini-ImageNet (`channels=3, image_size=84`) it has 12.4 million parameters and 640 features.

    B. N. Oreshkin, P. Rodriguez, A. Lacoste, "TADAM: Task dependent adaptive metric for improved few-shot learning",
    NeurIPS 2018, https://arxiv.org/abs/1805.10123. The widths and the activation are those of K. Lee, S. Maji,
    A. Ravichandran, S. Soatto, "Meta-Learning with Differentiable Convex Optimization" (MetaOptNet), CVPR 2019,
    https://arxiv.org/abs/1904.03758, without its dropout and DropBlock.

    Args:
        ways: number of classes that the head tells apart.
        channels: number of channels of the image.
        hidden: number of channels of the first block; the others have 2.5, 5 and 10 times as many, rounded down, which
            is 64-160-320-640 by default. A list gives those of all four blocks, as `[64, 128, 256, 512]`.
        image_size: height and width in pixels, at least 16.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.

    Raises:
        InputError: a size is below 1, the number of widths is not four, or the image is too small for four pools.
    """

    def __init__(
        self,
        ways: int = 5,
        channels: int = 1,
        hidden: int | Sequence[int] = 64,
        image_size: int = 28,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(1, "resnet12", ways=ways, channels=channels, image_size=image_size)
        if image_size < 16:
            raise InputError(
                f"Images of {image_size}x{image_size} are too small for the four 2x2 max-pools of 'resnet12', which "
                "need 16x16; use larger images."
            )
        widths = _widths(hidden)
        with initial_weights(seed):
            self.blocks = nn.Sequential(*map(_Block, [channels, *widths], widths))
            self.head = nn.Linear(widths[-1], ways)
            he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean((2, 3)))


def _widths(hidden: int | Sequence[int]) -> list[int]:
    for width in hidden if isinstance(hidden, Sequence) else [hidden]:
        check_counts(1, "resnet12", hidden=width)
    if not isinstance(hidden, Sequence):
        return [hidden, hidden * 5 // 2, hidden * 5, hidden * 10]
    if len(hidden) != 4:
        raise InputError(
            f"The model 'resnet12' has four blocks, and hidden={hidden!r} holds {len(hidden)} widths; give four, or "
            "the first one as a number."
        )
    return list(hidden)


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normed(inputs, outputs, 3),
            nn.LeakyReLU(SLOPE),
            *_normed(outputs, outputs, 3),
            nn.LeakyReLU(SLOPE),
            *_normed(outputs, outputs, 3),
        )
        self.shortcut = nn.Sequential(*_normed(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(F.leaky_relu(self.body(x) + self.shortcut(x), SLOPE), kernel_size=2)


def _normed(inputs: int, outputs: int, size: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)]
