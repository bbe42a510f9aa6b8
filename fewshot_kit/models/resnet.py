"""The project's reference network with residual connections."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ._registry import register
from .cnn import CNN


@register("resnet")
class ResNet(CNN):
    """`cnn` with identity connections: each block from the second on adds its input to its output.

    The first block changes the number of channels, so it has no identity connection. Parameters, options and shapes are
    those of `cnn`: `[N, channels, image_size, image_size]` -> scores `[N, ways]`. The idea is that of He, Zhang, Ren
    and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.
    """

    def features(self, x: Tensor) -> Tensor:
        """Images `[N, channels, H, W]` -> `[N, hidden, H, W]`."""
        first, *others = self.convolutions
        x = F.silu(first(x))
        for convolution in others:
            x = x + F.silu(convolution(x))
        return x
