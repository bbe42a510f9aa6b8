"""A learn2learn script, ported by changing one import; everything below the imports is as it was.

    python examples/ported_from_learn2learn.py

Put the line in the comment back, and the same losses are printed. The tasks are a `learn2learn.data.TaskDataset`,
so scripts that sample from their own need no change there either.
"""

import argparse

import torch
from torch import nn

from fewshot_kit import datasets, models
from fewshot_kit.algorithms import MAML  # was: from learn2learn.algorithms import MAML


def fast_adapt(batch, learner, loss, adaptation_steps, shots, per_class):
    data, labels = batch
    is_support = torch.arange(len(labels)) % per_class < shots  # a class's examples lie side by side
    for _ in range(adaptation_steps):
        learner.adapt(loss(learner(data[is_support]), labels[is_support]))
    scores = learner(data[~is_support])
    accuracy = (scores.argmax(dim=1) == labels[~is_support]).float().mean()
    return loss(scores, labels[~is_support]), accuracy


def main(ways=5, shots=1, queries=5, meta_lr=0.003, fast_lr=0.5, meta_batch_size=8, adaptation_steps=1):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=100, help="test episodes")
    args = parser.parse_args()

    data = datasets.create("glyphs")
    train_tasks = data.train.tasks(ways, shots, queries, generator=torch.Generator().manual_seed(0))
    test_tasks = data.test.tasks(ways, shots, queries, generator=torch.Generator().manual_seed(1))
    maml = MAML(models.create("conv4", ways=ways, seed=0), lr=fast_lr, first_order=False)
    optimizer = torch.optim.Adam(maml.parameters(), meta_lr)
    loss = nn.CrossEntropyLoss(reduction="mean")
    settings = (loss, adaptation_steps, shots, shots + queries)

    for iteration in range(args.iterations):
        optimizer.zero_grad()
        total_loss, total_accuracy = 0.0, 0.0
        for _ in range(meta_batch_size):
            error, accuracy = fast_adapt(train_tasks.sample(), maml.clone(), *settings)
            error.backward()
            total_loss += error.item() / meta_batch_size
            total_accuracy += accuracy.item() / meta_batch_size
        for p in maml.parameters():
            p.grad.data.mul_(1.0 / meta_batch_size)
        optimizer.step()
        if iteration % 10 == 0 or iteration == args.iterations - 1:
            print(f"iteration {iteration}: loss {total_loss:.6f}, accuracy {total_accuracy:.3f}")

    tests = [fast_adapt(test_tasks.sample(), maml.clone(), *settings)[1].item() for _ in range(args.episodes)]
    print(f"accuracy on unseen classes: {sum(tests) / len(tests):.4f}")


if __name__ == "__main__":
    main()
