"""Park and Oliva, "Meta-Curvature", NeurIPS 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .. import compat
from ..errors import InputError
from ._registry import register
from .bases.head_rate import HeadRate
from .bases.inner_loop import Rule, Tensors, sgd

# learn2learn's names for the matrices of a parameter, by its number of dimensions. "in" is the first dimension here.
LEARN2LEARN = {1: ["mc"], 2: ["mc_in", "mc_out"], 4: ["mc_in", "mc_out", "mc_f"]}


@register("meta_curvature")
class MetaCurvature(HeadRate):
    """MAML with learned matrices that transform each layer's inner gradient, one along each of its dimensions.

    A gradient G becomes MC(G), and the inner step follows it:

        MC(G) = G x_3 M_f x_2 M_i x_1 M_o,    theta' = theta - lr MC(G)

    x_n is the n-mode product, which multiplies by a matrix along dimension n: M_o along the output channels, M_i along
    the input channels, M_f along the positions of a filter. All three are learned, which is the paper's MC2. Together
    they act on the flattened gradient as the Kronecker product of M_o, M_i and M_f, which is never computed. The weight
    of a linear layer has M_o and M_i. A vector, such as a bias, has one factor for each element (a diagonal matrix), as
    in learn2learn's port of the authors' code.

    The matrices start as identities, and the algorithm as MAML. Nothing keeps them symmetric or positive. All tasks and
    inner steps share them; the matrices of a frozen parameter are frozen. A weight of n outputs and m inputs adds
    n^2 + m^2 numbers, which for a layer of many inputs is more than its weights. `matrices` has the order of the
    model's parameters. `HeadRate` and `GradientBased` describe the options.
    """

    takes_rules = False

    def __init__(self, model: nn.Module, lr: float = 0.5, first_order: bool = False, **options: Any) -> None:
        super().__init__(model, lr, first_order, **options)
        self.matrices = nn.ModuleList(
            nn.ParameterList(nn.Parameter(one, requires_grad=parameter.requires_grad) for one in identities(parameter))
            for parameter in model.parameters()
        )

    def rule(self) -> Rule:
        """Returns gradient descent along the transformed gradient, at `lr` and, for the head, `head_lr`."""
        descent = sgd(self.lr if self.head_lr is None else self.inner_rates())
        names = [name for name, _ in self.model.named_parameters()]
        matrices = {name: list(its.parameters()) for name, its in zip(names, self.matrices, strict=True)}

        def update(
            parameters: Tensors, gradients: Tensors, loss: Tensor, memory: None, step: int
        ) -> tuple[Tensors, None]:
            gradients = {name: transformed(gradients[name], matrices[name]) for name in parameters}
            return descent.update(parameters, gradients, loss, memory, step)

        return Rule(descent.init, update)

    def figures(self) -> dict[str, float]:
        """Returns the mean distance of the matrices from the identity, relative to the identity's norm."""
        distances = [
            torch.dist(matrix.detach(), start) / start.norm()
            for parameter, its in zip(self.model.parameters(), self.matrices, strict=True)
            for matrix, start in zip(its.parameters(), identities(parameter), strict=True)
        ]
        return {"curvature_distance": float(torch.stack(distances).mean())}

    def clone(self) -> Any:
        """Returns learn2learn's own `GBML` clone, with its `MetaCurvatureTransform` on this model and these matrices.

        Raises:
            InputError: a parameter does not have 1, 2 or 4 dimensions, as that transform needs.
        """
        self.check_clonable()
        library = compat.learn2learn()
        groups = iter(self.matrices)

        def transform(parameter: Tensor) -> Any:
            if parameter.dim() not in LEARN2LEARN:
                raise InputError(
                    f"learn2learn's meta-curvature takes parameters of 1, 2 or 4 dimensions, and one of this model has "
                    f"{parameter.dim()}, its shape being {list(parameter.shape)}; use engine='loop'."
                )
            made = library.optim.transforms.MetaCurvatureTransform(parameter)
            for name, matrix in zip(LEARN2LEARN[parameter.dim()], next(groups).parameters(), strict=True):
                delattr(made, name)  # a parameter's name takes no plain tensor, such as a transpose
                setattr(made, name, matrix.T if name == "mc_out" else matrix)  # mc_out multiplies from the right
            return made

        learner = library.algorithms.GBML
        kept = {"allow_unused": True, "allow_nograd": True}  # frozen and unused parameters stay as they are
        return learner(self.model, transform, lr=self.lr, first_order=self.first_order, **kept).clone()


def identities(parameter: Tensor) -> list[Tensor]:
    """Parameter `[o, i, ...]` -> identities `[o, o]`, `[i, i]` and `[f, f]`, with f the product of further dimensions.

    A parameter of two dimensions has no `[f, f]`. A vector or a scalar has ones of its own shape instead.
    """
    if parameter.dim() < 2:
        return [torch.ones_like(parameter)]
    sizes = parameter.flatten(2).shape if parameter.dim() > 2 else parameter.shape
    return [torch.eye(size, dtype=parameter.dtype, device=parameter.device) for size in sizes]


def transformed(gradient: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Gradient `[o, i, ...]`, matrices as from `identities` -> MC(G), in the gradient's shape."""
    if gradient.dim() < 2:
        return matrices[0] * gradient
    result = gradient.flatten(2) if gradient.dim() > 2 else gradient
    for matrix in matrices:
        # Each product moves the first dimension to the end. After one product for each dimension, the order is back.
        result = torch.tensordot(result, matrix, ([0], [1]))
    return result.reshape(gradient.shape)
