"""Oh, Yoo, Kim and Yun, "BOIL: Towards Representation Change for Few-Shot Learning", ICLR 2021."""

from ._registry import register
from .split_at_head import SplitAtHead


@register("boil")
class BOIL(SplitAtHead):
    """MAML with the head left alone in the inner loop (its rate is 0): the body adapts. The outer loop trains both.

    `GradientBased` describes the options. `clone()` is a head-freezing learner on higher.
    """

    def adapts(self) -> set[str]:
        """Every parameter outside the head."""
        return super().adapts() - self.head_parameters()
