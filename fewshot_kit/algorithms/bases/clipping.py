"""Bounds the gradients of an inner loop, after Pascanu, Mikolov and Bengio, "On the Difficulty of Training Recurrent
Neural Networks", ICML 2013 (algorithm 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .inner_loop import Rule, Tensors


def clipped(rule: Rule, clip: float | None) -> Rule:
    """Returns a rule whose steps see the gradients after `clipped_gradients`; the rule itself if `clip` is None."""
    if clip is None:
        return rule

    def update(parameters: Tensors, gradients: Tensors, loss: Tensor, memory: Any, step: int) -> tuple[Tensors, Any]:
        return rule.update(parameters, clipped_gradients(gradients, clip), loss, memory, step)

    return Rule(rule.init, update)


def clipped_gradients(gradients: Tensors, clip: float) -> Tensors:
    """Returns the gradients, scaled to a global norm of `clip` if theirs is larger.

    The scale is differentiated through, so a second-order meta-gradient is that of the clipped steps. Gradients whose
    norm is at most `clip` are returned as they were, bit for bit.
    """
    if not gradients:
        return gradients
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients.values()]))
    scale = clip / norm.clamp(min=clip)  # exactly 1 up to `clip`; the clamp keeps a gradient of 0 differentiable
    return {name: scale * gradient for name, gradient in gradients.items()}
