"""MAML's fully connected network for Omniglot."""

from __future__ import annotations

from torch import Tensor, nn

from ..ranges import check_counts
from ._registry import register
from .initial_weights import initial_weights

WIDTHS = (256, 128, 64, 64)


@register("omniglot_fc")
class OmniglotFC(nn.Module):
    """Four linear layers (256, 128, 64, 64), each with batch norm and ReLU, then a linear head.

    `[N, channels, image_size, image_size]` -> scores `[N, ways]`.

    C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML 2017,
    section 5.2, https://arxiv.org/abs/1703.03400; the architecture is that of Santoro et al. 2016,
    https://arxiv.org/abs/1605.06065.

    Args:
        ways: number of classes that the head tells apart.
        channels: number of channels of the image.
        image_size: height and width in pixels.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.

    Raises:
        InputError: a size is below 1.
    """

    def __init__(self, ways: int = 5, channels: int = 1, image_size: int = 28, seed: int | None = None) -> None:
        super().__init__()
        check_counts(1, "omniglot_fc", ways=ways, channels=channels, image_size=image_size)
        layers: list[nn.Module] = []
        with initial_weights(seed):
            for before, width in zip((channels * image_size**2, *WIDTHS), WIDTHS, strict=False):
                layers += [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU()]
            self.hidden = nn.Sequential(*layers)
            self.head = nn.Linear(WIDTHS[-1], ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.flatten(1)))
