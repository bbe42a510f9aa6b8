"""Checks of algorithms, models and data sets, for the tests of a plug-in. A check that fails says why in a sentence.

    from fewshot_kit.testing import check_algorithm

    def test_mine():
        check_algorithm(Mine)

Each check is also a separate function, for `pytest.mark.parametrize("check", ALGORITHM_CHECKS)`. Checks raise
`AssertionError`, take seconds on a CPU, and leave the global RNG alone.
"""

from .algorithm import ALGORITHM_CHECKS, check_algorithm
from .dataset import check_dataset
from .model import check_model

__all__ = ["ALGORITHM_CHECKS", "check_algorithm", "check_dataset", "check_model"]
