"""Your own algorithm: two methods and a name, and it trains, evaluates and adapts like any other.

    python examples/your_own_algorithm.py

The one here takes a class to be the mean of its examples' embeddings: the prototypes of Snell, Swersky and
Zemel (2017). To make it known by name wherever it is installed, without an import, a package of yours says
in its pyproject.toml

    [project.entry-points."fewshot_kit.algorithms"]
    nearest-mean = "your_package.your_module:NearestMean"

and `fewshot-kit train --algorithm nearest-mean` finds it (then leave the decorator out: the name is given once).
"""

import argparse

import torch
from torch import Tensor

from fewshot_kit import Algorithm, adapt, algorithms, datasets, evaluate, meta_train, models


@algorithms.register("nearest-mean")
class NearestMean(Algorithm):
    """Scores are negative squared distances from the class means, in the model's output space."""

    def adapt(self, x: Tensor, y: Tensor) -> Tensor:
        """Support set -> class means `[classes, features]`: all that was learned of the task, so it is returned."""
        within = algorithms.members(y).to(x.dtype)  # as F.one_hot, but for all tasks at once, too
        return within.T @ self.model(x) / within.sum(0)[:, None]

    def predict(self, state: Tensor, x: Tensor) -> Tensor:
        embedded = self.model(x)
        return -(embedded[:, None] - state).square().sum(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=600, help="test episodes")
    args = parser.parse_args()

    data = datasets.create("glyphs")
    embedding = models.create("mlp", inputs=28 * 28, hidden=(256, 128), ways=64, seed=0)  # 64 features, not classes
    algorithm = algorithms.create("nearest-mean", model=embedding)

    print("before:", evaluate(algorithm, data.test, episodes=args.episodes))
    meta_train(algorithm, data, queries=5, iterations=args.iterations, validate_every=100)
    print("after: ", evaluate(algorithm, data.test, episodes=args.episodes))
    # The number of classes is the task's own, so twenty of them need no other model.
    print("after: ", evaluate(algorithm, data.test, ways=20, episodes=args.episodes // 4))
    x, _, query_x, _ = (
        tensor[0] for tensor in data.test.episodes(3, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    )
    learner = adapt(algorithm, (x, [word for word in ("one", "two", "three") for _ in range(5)]))
    print("one task:", learner.predict(query_x), "for one, two, three")


if __name__ == "__main__":
    main()
