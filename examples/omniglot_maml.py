"""Omniglot with MAML: meta-train on 1100 characters, then tell apart five characters that were never seen.

    python examples/omniglot_maml.py                        # Omniglot, downloaded where it is not there
    python examples/omniglot_maml.py --root DATA            # Omniglot from DATA/omniglot-py
    python examples/omniglot_maml.py --dataset glyphs       # built-in characters: needs no data
    python examples/omniglot_maml.py --algorithm boil       # any algorithm of `fewshot-kit list`

The default budget is one or two minutes of one core. Accuracy goes on rising: try --iterations 2000.
"""

import argparse

from fewshot_kit import algorithms, datasets, evaluate, meta_train, models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="omniglot", help="omniglot, futurama or glyphs")
    parser.add_argument("--root", help="the folder that holds omniglot-py")
    parser.add_argument("--algorithm", default="maml")
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--episodes", type=int, default=600, help="test episodes")
    args = parser.parse_args()

    data = datasets.create(args.dataset, **({"root": args.root} if args.root else {}))
    model = models.create("conv4", ways=args.ways, channels=1, image_size=28, seed=0)
    algorithm = algorithms.create(args.algorithm, model=model)
    task = {"ways": args.ways, "shots": args.shots}

    # Both lines run the same test episodes, of classes that training never sees.
    print(f"{args.algorithm} on {data.name}, chance is {100 / args.ways:.0f} %")
    print("before:", evaluate(algorithm, data.test, **task, episodes=args.episodes))
    budget = {"iterations": args.iterations, "validate_every": 50, "validation_episodes": 50}
    result = meta_train(algorithm, data, **task, queries=5, meta_batch=8, meta_lr=3e-3, **budget)
    print("after: ", evaluate(algorithm, data.test, **task, episodes=args.episodes))
    print(f"{result.iterations} iterations took {result.seconds:.0f} s")


if __name__ == "__main__":
    main()
