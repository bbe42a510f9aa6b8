"""Convolutions as matrix products, for `vmap`.

If every task has its own weights, PyTorch runs their convolutions as one grouped convolution. A matrix product per task
can be faster on a GPU. This depends on the card and the net, so `auto` measures both there.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def adapted(model: nn.Module, names: set[str]) -> bool:
    """Returns whether any parameter of these names belongs to a convolution."""
    weights = {id(parameter) for layer in model.modules() if is_convolution(layer) for parameter in layer.parameters()}
    return any(id(parameter) in weights for name, parameter in model.named_parameters() if name in names)


def is_convolution(module: nn.Module) -> bool:
    """Returns whether the module is a convolution layer."""
    return isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: str | int | tuple[int, ...] = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """Computes `F.conv2d` as a product of the weights with the patches of each image, `[N, C k k, pixels]`.

    `F.conv2d` itself runs for several groups, for padding given as a string, and for inputs without a batch.
    """
    if groups != 1 or isinstance(padding, str) or input.dim() != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)
    (sh, sw), (ph, pw), (dh, dw) = (_pair(value) for value in (stride, padding, dilation))
    height, width = input.shape[2] + 2 * ph, input.shape[3] + 2 * pw
    kernel = weight.shape[2], weight.shape[3]
    size = (height - dh * (kernel[0] - 1) - 1) // sh + 1, (width - dw * (kernel[1] - 1) - 1) // sw + 1
    patches = F.unfold(input, kernel, (dh, dw), (ph, pw), (sh, sw))
    output = weight.flatten(1) @ patches
    output = output if bias is None else output + bias[:, None]
    return output.unflatten(2, size)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    """Returns one number for each of the two directions."""
    first, second = (value, value) if isinstance(value, int) else value if len(value) == 2 else value * 2
    return first, second
