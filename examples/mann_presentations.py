"""A memory-augmented network learns to learn from a stream: accuracy the 1st, 2nd, 5th and 10th time a class is seen.

    python examples/mann_presentations.py                           # built-in characters: needs no data
    python examples/mann_presentations.py --dataset omniglot        # downloaded where it is not there; or --root DATA

The protocol of Santoro et al. (2016), section 4.1: fifty drawings of five new characters come one by one, and the
label of each comes with the next one; the first time, a class can only be guessed. On Omniglot the paper reports
82.8 % at the 2nd presentation and 94.9 % at the 5th, after 100,000 sequences.
"""

import argparse

import torch

from fewshot_kit import algorithms, datasets, meta_train, models
from fewshot_kit.algorithms.mann.algorithm import MANN, accuracy_by_presentation, shuffled
from fewshot_kit.episodes import unstack

TIMES = 10  # that every class is presented


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="glyphs", help="glyphs, omniglot or futurama")
    parser.add_argument("--root", help="the folder that holds omniglot-py")
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--sequences", type=int, default=200, help="test sequences")
    args = parser.parse_args()

    data = datasets.create(args.dataset, **({"root": args.root} if args.root else {}))
    model = models.create("conv4", ways=args.ways, hidden=32, seed=0)
    mann = algorithms.create("mann", model=model, protocol="sequence")

    # An episode's support and query examples together are one sequence: the trainer needs nothing else.
    report("before", mann, data.test, args)
    episodes = {"ways": args.ways, "shots": 1, "queries": TIMES - 1, "meta_batch": 4}
    validation = {"validate_every": args.iterations, "validation_queries": TIMES - 1, "validation_episodes": 50}
    result = meta_train(mann, data, **episodes, **validation, iterations=args.iterations, meta_lr=3e-3)
    report("after", mann, data.test, args)
    print(f"{result.iterations} iterations took {result.seconds:.0f} s")


@torch.no_grad()
def report(when: str, mann: MANN, split: datasets.Split, args: argparse.Namespace) -> None:
    """Accuracy by presentation, over sequences of classes that training never sees."""
    generator = torch.Generator().manual_seed(1)
    scores, labels = [], []
    for episode in unstack(split.episodes(args.ways, 1, TIMES - 1, args.sequences, generator)):
        x, y = torch.cat([episode.support_x, episode.query_x]), torch.cat([episode.support_y, episode.query_y])
        order = shuffled(x)
        scores.append(mann.sequence(x[order], y[order]))
        labels.append(y[order])
    found = accuracy_by_presentation(torch.stack(scores), torch.stack(labels))
    said = ", ".join(f"{100 * found[time - 1]:.1f} % at presentation {time}" for time in (1, 2, 5, TIMES))
    print(f"{when}: {said}")


if __name__ == "__main__":
    main()
