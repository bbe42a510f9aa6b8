"""Raghu, Raghu, Bengio and Vinyals, "Rapid Learning or Feature Reuse? Towards Understanding the Effectiveness
of MAML", ICLR 2020."""

from ._registry import register
from .split_at_head import SplitAtHead


@register("anil")
class ANIL(SplitAtHead):
    """MAML whose inner loop adapts the head only ("almost no inner loop"). The outer loop trains everything.

    `GradientBased` describes the options. `clone()` is a body-freezing learner on higher.
    """

    def adapts(self) -> set[str]:
        """The head's parameters."""
        return self.head_parameters()
