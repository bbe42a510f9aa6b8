"""Reinforcement learning with MAML: a policy that finds a goal that it is not shown after a gradient step or two.

    python examples/rl_navigation.py                        # ten minutes of one core; writes runs/navigation/
    python examples/rl_navigation.py --iterations 10        # a first impression

The tasks and network of Finn, Abbeel and Levine (2017), section 5.3, on gymnasium (pip install 'fewshot-kit[rl]'). The
mean return after 0 to 3 steps (-40.3, -10.3, -4.4 and -4.3) is printed beside theirs. navigation.py has the parts.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from navigation import Policy, Walks, learning, meta_step

PUBLISHED = (-40.41, -11.68, -3.33, -3.23)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=40, help="goals of an iteration")
    parser.add_argument("--trajectories", type=int, default=20, help="per task and step; twice that in the test")
    parser.add_argument("--lr", type=float, default=0.5, help="of the first inner step; half of it from then on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/navigation"))
    args = parser.parse_args()

    policy, generator, started = Policy(args.seed), torch.Generator().manual_seed(args.seed), time.perf_counter()
    for iteration in range(args.iterations):
        goals = (torch.rand(args.tasks, 2, generator=generator) - 0.5).numpy()
        before, after = learning(policy, goals, [args.lr], args.trajectories, generator)
        kl = meta_step(policy, before, after, args.lr)
        if iteration % 10 == 0:
            means = [walks.returns().mean() for walks in (before, after)]
            print(f"iteration {iteration}: return {means[0]:.2f}, after a step {means[1]:.2f}, KL {kl:.4f}", flush=True)
    seconds = time.perf_counter() - started

    goals = np.random.RandomState(1).uniform(-0.5, 0.5, (40, 2))
    tests = learning(policy, goals, [args.lr, args.lr / 2, args.lr / 2], 2 * args.trajectories, generator)
    found = [walks.returns() for walks in tests]
    means, intervals = [r.mean().item() for r in found], [1.96 * r.std().item() / len(goals) ** 0.5 for r in found]
    print(f"{args.iterations} iterations took {seconds:.0f} s. Mean return over {len(goals)} new goals:")
    for steps, (mean, interval, published) in enumerate(zip(means, intervals, PUBLISHED, strict=True)):
        print(f"  {steps} steps: {mean:.2f} +- {interval:.2f} (published: {published})")
    args.out.mkdir(parents=True, exist_ok=True)
    told = {"seconds": seconds, "returns": means, "intervals": intervals, "published": PUBLISHED}
    (args.out / "returns.json").write_text(json.dumps(vars(args) | told, indent=1, default=str) + "\n")
    draw(tests, goals, args.out / "walks.png")


def draw(tests: list[Walks], goals: np.ndarray, path: Path) -> None:
    """A walk to each of four goals before, and after 1 and 3 steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for task, axes in enumerate(figure.subplots(1, 4, sharex=True, sharey=True)):
        for steps, color in ((0, "0.75"), (1, "C2"), (3, "C0")):
            taken = tests[steps].taken[task, 0].bool()
            axes.plot(*tests[steps].positions[task, 0, taken].T, color=color, linewidth=1, label=f"steps: {steps}")
        axes.plot(*goals[task], "*", color="C1", markersize=12, zorder=3, label="goal")
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
