"""MAML's convolutional network."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .initial_weights import initial_weights


@register("conv4")
class Conv4(nn.Module):
    """Four blocks of 3x3 convolution, batch norm and ReLU, then a linear head.

    `[N, channels, image_size, image_size]` -> scores `[N, ways]`. `downsample="stride"` is the network for Omniglot:
    the convolutions have stride 2, and the head sees the mean over the image, `[N, hidden]`. It takes any image size.
    `"pool"` is the network for mini-ImageNet: a 2x2 max-pool follows each block, and the head sees all
    `hidden * (image_size // 16)**2` features. The papers use it with `channels=3, image_size=84` and `hidden=32` (MAML,
    800 features) or `hidden=64` (prototypical networks, 1600 features).

    C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
    section 5.2, https://arxiv.org/abs/1703.03400; the architecture is that of Vinyals et al. 2016,
    https://arxiv.org/abs/1606.04080.

    Args:
        ways: number of classes that the head tells apart.
        channels: number of channels of the image.
        hidden: number of channels of every convolution.
        image_size: height and width in pixels; `"pool"` needs 16 or more.
        downsample: `"stride"` or `"pool"`.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.

    Raises:
        InputError: a size is below 1, `downsample` is unknown, or the image is too small for four pools.
    """

    def __init__(
        self,
        ways: int = 5,
        channels: int = 1,
        hidden: int = 64,
        image_size: int = 28,
        downsample: str = "stride",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        check_counts(1, "conv4", ways=ways, channels=channels, hidden=hidden, image_size=image_size)
        if downsample not in ("stride", "pool"):
            raise InputError(f"The model 'conv4' has no downsample='{downsample}'; it is 'stride' or 'pool'.")
        pooled = downsample == "pool"
        if pooled and image_size < 16:
            raise InputError(
                f"Images of {image_size}x{image_size} are too small for the four 2x2 max-pools of 'conv4', which need "
                "16x16; use larger images or downsample='stride'."
            )
        with initial_weights(seed):
            self.blocks = nn.Sequential(*(_block(hidden if i else channels, hidden, pooled) for i in range(4)))
            self.head = nn.Linear(hidden * (image_size // 16) ** 2 if pooled else hidden, ways)
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(x)
        return self.head(features.flatten(1) if self.pooled else features.mean((2, 3)))


def _block(inputs: int, outputs: int, pooled: bool) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=1 if pooled else 2, padding=1)
    layers = [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2)) if pooled else nn.Sequential(*layers)
