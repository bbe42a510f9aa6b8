"""The contracts of algorithms, models and data sets, as checks for the tests of a plug-in: what fails says so in words.

    from fewshot_kit.testing import check_algorithm

    def test_mine():
        check_algorithm(Mine)

Each check is a function of its own too, for `pytest.mark.parametrize("check", ALGORITHM_CHECKS)`. They raise
`AssertionError`, take seconds on a CPU, and leave the global RNG as it was.
"""

from .algorithm import ALGORITHM_CHECKS, check_algorithm
from .dataset import check_dataset
from .model import check_model

__all__ = ["ALGORITHM_CHECKS", "check_algorithm", "check_dataset", "check_model"]
