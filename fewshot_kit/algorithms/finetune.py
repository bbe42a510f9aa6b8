"""Fine-tuning on the support set, the baseline that every meta-learner has to beat.

Meta-training fits one shared model to all tasks at once, without adaptation, as the pre-trained baseline of Finn,
Abbeel and Levine (2017, section 5.1) does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..episodes import Episode
from ._registry import register
from .bases.gradient_based import GradientBased
from .bases.inner_loop import Rule, adam


@register("finetune")
class Finetune(GradientBased):
    """Adam on the support set for `steps` full-batch steps. `GradientBased` describes the other options.

    Nothing is meta-learned: `loss` is the loss of the shared, unadapted model on the whole episode. If every episode
    numbers its classes anew, the tasks share nothing, and the model stays near its initialisation.
    """

    takes_rules = False
    through_steps = False

    def __init__(self, model: nn.Module, lr: float = 0.01, *, steps: int = 50, **options: Any) -> None:
        super().__init__(model, lr, first_order=True, steps=steps, **options)

    def rule(self) -> Rule:
        """Returns Adam at the rate `lr`."""
        return adam(self.lr)

    def loss(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Returns the shared model's loss on support set and queries, and its query scores `[Q, classes]`."""
        x = torch.cat([episode.support_x, episode.query_x])
        y = torch.cat([episode.support_y, episode.query_y])
        buffers = dict(self.model.named_buffers())
        with replace(self.policy, twice=False).on_support(self.model):
            scores = self.run({}, buffers, x)[0]
        return self.criterion(scores, y), scores[len(episode.support_x) :]
