"""The wide residual network of few-shot learning."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InputError
from ..ranges import check_counts
from ._registry import register
from .initial_weights import he_normal, initial_weights


@register("wrn28_10")
class WideResNet(nn.Module):
    """Wide ResNet 28-10: three groups of pre-activation residual blocks, then a linear head.

    Images of any size `[N, channels, H, W]` -> scores `[N, ways]`. A 3x3 convolution to 16 channels comes first. Three
    groups of `(depth - 4) / 6` blocks follow, with `16 * width`, `32 * width` and `64 * width` channels; the second and
    the third group halve the image. After batch norm and ReLU, the head sees the mean over the image, 640 features. A
    block of input x is x + f(r(x)): r is batch norm with ReLU, and f is two 3x3 convolutions with batch norm and ReLU
    between them. If the number of channels changes, a 1x1 convolution of r(x) replaces x. The network has 36.5 million
    parameters.

    S. Zagoruyko, N. Komodakis, "Wide Residual Networks", BMVC 2016, https://arxiv.org/abs/1605.07146, without dropout.
    Few-shot learning uses it since A. Rusu et al., "Meta-Learning with Latent Embedding Optimization", ICLR 2019,
    https://arxiv.org/abs/1807.05960, and P. Mangla et al., "Charting the Right Manifold: Manifold Mixup for Few-shot
    Learning", WACV 2020, https://arxiv.org/abs/1907.12087.

    Args:
        ways: number of classes that the head tells apart.
        channels: number of channels of the image.
        depth: 6n + 4, where n is the number of blocks in a group.
        width: factor of the channels.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.

    Raises:
        InputError: a size is below 1, or the depth is not 10, 16, 22 and so on.
    """

    def __init__(
        self, ways: int = 5, channels: int = 1, depth: int = 28, width: int = 10, seed: int | None = None
    ) -> None:
        super().__init__()
        check_counts(1, "wrn28_10", ways=ways, channels=channels, depth=depth, width=width)
        blocks, rest = divmod(depth - 4, 6)
        if blocks < 1 or rest:
            raise InputError(
                f"The model 'wrn28_10' cannot have depth={depth}; it must be 6n + 4, such as 10, 16, 22 or 28."
            )
        groups = [(16 * width, 1), (32 * width, 2), (64 * width, 2)]
        layers: list[nn.Module] = []
        before = 16
        with initial_weights(seed):
            self.stem = nn.Conv2d(channels, before, kernel_size=3, padding=1, bias=False)
            for outputs, stride in groups:
                for block in range(blocks):
                    layers.append(_Block(before, outputs, 1 if block else stride))
                    before = outputs
            self.blocks = nn.Sequential(*layers)
            self.norm = nn.BatchNorm2d(before)
            self.head = nn.Linear(before, ways)
            he_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3)))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding=1, bias=False)
        self.shortcut = (
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False) if inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(self.conv1(active))))
        return y + (x if self.shortcut is None else self.shortcut(active))
