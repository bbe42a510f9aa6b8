"""Squared distances between features and class means, by one matrix product."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(features: Tensor, means: Tensor) -> Tensor:
    """Features `[..., N, D]`, class means `[..., classes, D]` -> squared Euclidean distances `[..., N, classes]`.

    The mean of the class means is subtracted first, because features that share a large offset would lose their digits
    in the product. The distances do not depend on it, so nothing is differentiated through it. float16 and bfloat16
    have too few digits for the product, and it is taken in float32. A distance of 0 may come out slightly below 0.
    """
    dtype = means.dtype
    if dtype in (torch.float16, torch.bfloat16):
        features, means = features.float(), means.float()
    centre = means.detach().mean(-2, keepdim=True)
    return distances_of_units(features - centre, means - centre).to(dtype)


def distances_of_units(features: Tensor, means: Tensor) -> Tensor:
    """As `squared_distances`, for features of length 1, which need no centring."""
    products = features @ (2 * means).mT
    return features.square().sum(-1, keepdim=True) - products + means.square().sum(-1)[..., None, :]
