"""A fully connected network for vectors; by default it is MAML's network for sinusoids."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..ranges import check_counts
from ._registry import register
from .initial_weights import initial_weights


@register("mlp")
class MLP(nn.Module):
    """Linear layers with ReLU between them: examples of `inputs` values each, `[N, ...]` -> `[N, ways]`.

    The default is the 40-40 regressor of C. Finn, P. Abbeel, S. Levine, "Model-Agnostic Meta-Learning for Fast
    Adaptation of Deep Networks", ICML 2017, section 5.1, https://arxiv.org/abs/1703.03400.

    Args:
        inputs: number of values in one example.
        ways: number of outputs, for classes or for the values of one regression target.
        hidden: width of each hidden layer.
        seed: seed of the initial weights; None draws them from PyTorch's global RNG.

    Raises:
        InputError: a size is below 1.
    """

    def __init__(
        self, inputs: int = 1, ways: int = 1, hidden: Sequence[int] = (40, 40), seed: int | None = None
    ) -> None:
        super().__init__()
        check_counts(1, "mlp", inputs=inputs, ways=ways)
        for width in hidden:
            check_counts(1, "mlp", hidden=width)
        layers: list[nn.Module] = []
        with initial_weights(seed):
            for before, width in zip([inputs, *hidden], hidden, strict=False):
                layers += [nn.Linear(before, width), nn.ReLU()]
            self.hidden = nn.Sequential(*layers)
            self.head = nn.Linear([inputs, *hidden][-1], ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.hidden(x.reshape(len(x), -1)))
