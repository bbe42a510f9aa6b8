"""mini-ImageNet with the LSTM meta-learner: its inner loop's update rule is learned, not gradient descent.

    python examples/mini_imagenet_meta_lstm.py --root DATA  # DATA/mini-imagenet: class folders, tar archives or CSV
    python examples/mini_imagenet_meta_lstm.py              # from $FEWSHOT_KIT_DATA

The default budget, some minutes of one core, is enough to see the loss fall and not for good accuracy. The published
one, 50 000 episodes with 8 steps, is, on a GPU,

    python examples/mini_imagenet_meta_lstm.py --iterations 12500 --steps 8 --queries 15 --validate-every 500

for which Ravi and Larochelle (2017) report 60.60 +- 0.71 % in 5-way 5-shot.
"""

import argparse

import torch

from fewshot_kit import algorithms, datasets, evaluate, meta_train, models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="the folder that holds mini-imagenet")
    parser.add_argument("--ways", type=int, default=5)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5, help="query images of each class in meta-training")
    parser.add_argument("--steps", type=int, default=5, help="of the inner loop")
    parser.add_argument("--iterations", type=int, default=40, help="meta-updates of 4 episodes")
    parser.add_argument("--validate-every", type=int, default=20)
    parser.add_argument("--episodes", type=int, default=100, help="test episodes")
    args = parser.parse_args()

    data = datasets.create("mini_imagenet", root=args.root)
    sizes = {"hidden": 32, "image_size": 84, "channels": 3, "downsample": "pool"}
    model = models.create("conv4", ways=args.ways, **sizes, seed=0)
    algorithm = algorithms.create("meta_lstm", model=model, steps=args.steps)
    task = {"ways": args.ways, "shots": args.shots}
    # As in the paper, new images are normalised one by one, by statistics of the support set.
    test = {"episodes": args.episodes, "batch_norm": "support"}

    print(f"{args.ways}-way {args.shots}-shot on {data.name}, chance is {100 / args.ways:.0f} %")
    print("before:", evaluate(algorithm, data.test, **task, **test))
    result = meta_train(
        algorithm,
        data,
        **task,
        queries=args.queries,
        iterations=args.iterations,
        meta_batch=4,
        validate_every=args.validate_every,
        validation_episodes=min(args.episodes, 50),
        device="cuda" if torch.cuda.is_available() else None,
    )
    print("after: ", evaluate(algorithm, data.test, **task, **test))
    print(f"{result.iterations} iterations took {result.seconds:.0f} s")


if __name__ == "__main__":
    main()
