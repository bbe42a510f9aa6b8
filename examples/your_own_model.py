"""Your own model: any `nn.Module` adapts in one line, and meta-trains, without a change to it.

    python examples/your_own_model.py
    python examples/your_own_model.py --algorithm boil --iterations 500

The network here has what often goes wrong elsewhere: batch norm, dropout and a part that is frozen.
"""

import argparse
import copy

import torch
from torch import Tensor, nn

from fewshot_kit import adapt, algorithms, datasets, evaluate, meta_train


class MyNet(nn.Module):
    def __init__(self, ways: int) -> None:
        super().__init__()
        self.edges = nn.Conv2d(1, 8, 3, padding=1).requires_grad_(False)  # as if it came from elsewhere
        self.body = nn.Sequential(
            nn.Conv2d(8, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(32 * 7 * 7, ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.body(self.edges(x)).flatten(1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithm", default="maml", help="maml or boil, say")
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=200, help="test episodes")
    args = parser.parse_args()

    # One task of three unseen characters, with labels of its own: five drawings each to learn from, ten to be asked.
    data = datasets.create("glyphs")
    task = data.test.episodes(3, 5, 10, meta_batch=1, generator=torch.Generator().manual_seed(0))
    support_x, support_y, query_x, query_y = (tensor[0] for tensor in task)
    words = ["apple", "book", "cat"]
    support, truth = (support_x, [words[i] for i in support_y]), [words[i] for i in query_y]

    model = MyNet(ways=5)
    before = copy.deepcopy(model.state_dict())
    learner = adapt(model, support)  # plain fine-tuning of a copy, the baseline
    same = all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    right = sum(guess == word for guess, word in zip(learner.predict(query_x), truth, strict=True))
    print(f"adapted without meta-training: {right} of {len(truth)} right; the model is unchanged: {same}")

    algorithm = algorithms.create(args.algorithm, model=model, lr=0.1)
    print("before:", evaluate(algorithm, data.test, episodes=args.episodes))
    budget = {"iterations": args.iterations, "validate_every": 50, "validation_episodes": 50}
    meta_train(algorithm, data, queries=5, meta_batch=8, meta_lr=1e-3, schedule="constant", **budget)
    print("after: ", evaluate(algorithm, data.test, episodes=args.episodes))

    learner = adapt(algorithm, support, steps=5)
    right = sum(guess == word for guess, word in zip(learner.predict(query_x), truth, strict=True))
    print(f"adapted after meta-training: {right} of {len(truth)} right; the classes are {learner.classes}")
    print("the frozen part is unchanged:", torch.equal(model.edges.weight, before["edges.weight"]))


if __name__ == "__main__":
    main()
