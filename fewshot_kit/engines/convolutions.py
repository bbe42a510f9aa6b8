"""Convolutions under `vmap` as products of matrices.

Where every task has weights of its own, PyTorch makes one grouped convolution of them all. Whether a GPU is quicker at
that or at one product of matrices for each task depends on the card and the net, so that `auto` measures it there.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def adapted(model: nn.Module, names: set[str]) -> bool:
    """Whether the parameters of these names have to do with convolutions."""
    weights = {id(parameter) for layer in model.modules() if is_convolution(layer) for parameter in layer.parameters()}
    return any(id(parameter) in weights for name, parameter in model.named_parameters() if name in names)


def is_convolution(module: nn.Module) -> bool:
    """Whether the module is a layer of convolutions."""
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
    """`F.conv2d` by the patches of each image, `[N, C k k, pixels]`; itself for groups and padding by a word."""
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
    """A number for both directions, or one for each."""
    first, second = (value, value) if isinstance(value, int) else value if len(value) == 2 else value * 2
    return first, second
