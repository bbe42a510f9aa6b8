"""The project's reference network: a plain convolutional net without batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .initial_weights import initial_weights


@register("cnn")
class CNN(nn.Module):
    """Four 3x3 convolutions with SiLU, a 3x3 max-pool of stride 1, a linear head.

    `[N, channels, image_size, image_size]` -> scores `[N, ways]`. The convolutions keep the image's size (stride 1,
    padding 1), and the pool takes a pixel off each edge, so the head sees `hidden * (image_size - 2)**2` features.
    This is the reference network of the project. It has no buffers, so every engine and batch-norm policy treats it
    alike.

    Args:
        ways: number of classes that the head tells apart.
        channels: number of channels of the image.
        hidden: number of channels of every convolution.
        image_size: height and width in pixels, at least 3.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.
        smooth_head: start from a head whose weights vary smoothly over the image, by interpolation between 6 x 6
            points. If the head does not adapt (BOIL), the body can follow such a head far better than one whose weights
            are drawn independently for each position.

    Raises:
        InputError: a size is below 1, or the image is smaller than the pool.
    """

    def __init__(
        self,
        ways: int = 5,
        channels: int = 1,
        hidden: int = 32,
        image_size: int = 28,
        seed: int | None = None,
        smooth_head: bool = False,
    ) -> None:
        super().__init__()
        check_counts(1, "cnn", ways=ways, channels=channels, hidden=hidden, image_size=image_size)
        if image_size < 3:
            raise InputError(f"Images of {image_size}x{image_size} are smaller than the 3x3 max-pool; use 3x3 or more.")
        with initial_weights(seed):
            self.convolutions = nn.ModuleList(
                nn.Conv2d(hidden if block else channels, hidden, kernel_size=3, padding=1) for block in range(4)
            )
            self.head = nn.Linear(hidden * (image_size - 2) ** 2, ways)
            if smooth_head:
                points = 0.02 * torch.randn(ways, hidden, 6, 6)
                smooth = F.interpolate(points, size=image_size - 2, mode="bicubic")
                self.head.weight = nn.Parameter(smooth.flatten(1))
                nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        """Images `[N, channels, H, W]` -> `[N, hidden, H, W]`."""
        for convolution in self.convolutions:
            x = F.silu(convolution(x))
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.max_pool2d(self.features(x), kernel_size=3, stride=1).flatten(1))
