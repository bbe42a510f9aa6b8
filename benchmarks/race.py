"""Seconds of training to an accuracy on Omniglot, 5-way 1-shot: `python benchmarks/race.py`.

The kit's default command, the kit with learn2learn's settings, and learn2learn's own MAML loop (its Omniglot example:
rate 0.5, one step, meta-batches of 32, Adam at 0.003, batch norm by the batch): the same network, split and machine,
one after the other in one run. Every few seconds of training the clock stands still and validation episodes are asked;
who has the last accuracy is done. The default command begins with a prototypical network. Nothing else may run. Written
are JSON, a page and a picture.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from speed_jobs.machine import describe
from torch.nn import functional as F

from fewshot_kit import algorithms, compat, datasets, evaluate, meta_train, models
from fewshot_kit.datasets import Data, Split
from fewshot_kit.errors import KitError
from fewshot_kit.experiments import running as experiment
from fewshot_kit.experiments.settings import TrainConfig, from_recipe
from fewshot_kit.runs.storage import write_bytes
from fewshot_kit.training.hooks import Hooks

RESULTS = Path(__file__).parent / "results" / "race"
MARKS = (0.90, 0.95, 0.97, 0.98)
LEARN2LEARN = {"lr": 0.5, "meta_lr": 0.003, "meta_batch": 32, "queries": 1}  # of its examples/vision/maml_omniglot.py


class Done(Exception):
    """The time is over, or all is reached."""


class Clock(Hooks):
    """Asks for the accuracy every so many seconds of training, in which it does not count its own time."""

    def __init__(self, ask: Callable[[Any], float], every: float, limit: float) -> None:
        self.ask, self.every, self.limit = ask, every, limit
        self.spent, self.asked, self.since = 0.0, 0.0, time.perf_counter()
        self.points: list[tuple[float, float]] = []

    def look(self, algorithm: Any, last: bool = False) -> None:
        """To be called after every meta-update."""
        self.spent += time.perf_counter() - self.since
        if last or self.spent - self.asked >= self.every:
            self.asked = self.spent
            self.points.append((round(self.spent, 1), self.ask(algorithm)))
            print(f"  {self.spent:6.0f} s  {self.points[-1][1]:.4f}", file=sys.stderr)
        if self.spent > self.limit or (self.points and self.points[-1][1] >= MARKS[-1]):
            raise Done
        self.since = time.perf_counter()

    def on_start(self, training: Any) -> None:
        self.since = time.perf_counter()

    def on_iteration(self, training: Any) -> None:
        self.look(training.algorithm, last=training.iteration == training.iterations)


def by_recipe(name: str, clock: Clock) -> None:
    """The kit's recipe, with what it starts from and its own validations: all that a user waits for."""
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(**from_recipe({"dataset": "omniglot", "algorithm": name, "run": f"{folder}/run"}))
        first = experiment.earlier(config)
        for each in (config,) if first is None else (first, config):
            experiment.train(each, progress=False, hooks=[clock])


def with_its_settings(data: Data[Split], clock: Clock) -> None:
    """The kit's MAML and trainer, as learn2learn's example is set."""
    maml = algorithms.create("maml", model=models.create("conv4", ways=5, seed=0), lr=LEARN2LEARN["lr"])
    settings = {name: LEARN2LEARN[name] for name in ("meta_lr", "meta_batch", "queries")}
    meta_train(
        maml, data, **settings, schedule="constant", iterations=60000, validate_every=60000, validation_episodes=1,
        progress=False, hooks=[clock],
    )  # fmt: skip


def its_loop(data: Data[Split], clock: Clock) -> None:
    """learn2learn's own MAML and loop, on its own `TaskDataset` of the same images."""
    tasks = data.train.tasks(5, 1, LEARN2LEARN["queries"], generator=torch.Generator().manual_seed(0))
    maml = compat.learn2learn().algorithms.MAML(models.create("conv4", ways=5, seed=0), lr=LEARN2LEARN["lr"])
    optimizer = torch.optim.Adam(maml.parameters(), LEARN2LEARN["meta_lr"])
    ours = algorithms.create("maml", model=maml.module, lr=LEARN2LEARN["lr"])  # to be asked by the same evaluator
    clock.on_start(None)
    while True:
        optimizer.zero_grad()
        for _ in range(LEARN2LEARN["meta_batch"]):
            learner = maml.clone()
            x, y = tasks.sample()
            support = torch.arange(len(y)) % (1 + LEARN2LEARN["queries"]) < 1
            learner.adapt(F.cross_entropy(learner(x[support]), y[support]))
            F.cross_entropy(learner(x[~support]), y[~support]).backward()
        for parameter in maml.parameters():
            parameter.grad.mul_(1 / LEARN2LEARN["meta_batch"])
        optimizer.step()
        clock.look(ours)


def race(entrants: dict[str, Callable[[Clock], None]], ask: Callable[[Any], float], every: float, limit: float) -> Any:
    """What each has after how many seconds, and when it first had each of `MARKS`; None where it never had."""
    found = {}
    for name, run in entrants.items():
        print(name, file=sys.stderr)
        clock = Clock(ask, every, limit)
        with contextlib.suppress(Done):
            run(clock)
        reached = {str(mark): next((at for at, value in clock.points if value >= mark), None) for mark in MARKS}
        found[name] = {"points": clock.points, "reached": reached}
    return found


def page(results: dict[str, Any]) -> str:
    """The table, from the JSON alone."""
    lines = [
        "# Seconds of training to an accuracy, Omniglot 5-way 1-shot",
        "",
        "Written by `python benchmarks/race.py`; every figure is read from `results.json` beside this. Accuracy on",
        f"{results['episodes']} episodes of the validation characters, asked every {results['every']:g} s of training;",
        f"each had at most {results['limit']:g} s, and was done with {100 * MARKS[-1]:.0f} %. The default command",
        "of the kit begins with a prototypical network, which is what is asked as long as that is trained.",
        f"{results['machine']['processor']}, {results['machine']['threads']} threads.",
        "",
        f"| | {' | '.join(f'{100 * mark:.0f} %' for mark in MARKS)} | best |",
        f"|---|{'---|' * len(MARKS)}---|",
    ]
    for name, one in results["entrants"].items():
        times = ["not reached" if at is None else f"{at:.0f} s" for at in one["reached"].values()]
        best = max(value for _, value in one["points"])
        lines.append(f"| {name} | {' | '.join(times)} | {100 * best:.2f} % |")
    return "\n".join([*lines, "", "![Accuracy against time](race.png)", ""])


def draw(results: dict[str, Any], path: Path) -> None:
    """Accuracy against seconds, a line for each."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, one in results["entrants"].items():
        seconds, values = zip(*one["points"], strict=True)
        axes.plot(seconds, [100 * value for value in values], marker=".", label=name)
    axes.set(xlabel="seconds of training", ylabel="accuracy, %", xscale="log", ylim=(80, 100))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=130, format="png")
    write_bytes(path, picture.getvalue())


def main(argv: list[str] | None = None) -> int:
    """Run the race and write its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, default=600, help="seconds for each (default: %(default)s)")
    parser.add_argument("--every", type=float, default=10, help="seconds between questions (default: %(default)s)")
    parser.add_argument("--episodes", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--root", help="folder that holds omniglot-py (default: as everywhere in the kit)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results go")
    arguments = parser.parse_args(argv)
    try:
        data = datasets.create("omniglot", **({"root": arguments.root} if arguments.root else {}))
        task = {"ways": 5, "shots": 1, "episodes": arguments.episodes}
        entrants: dict[str, Callable[[Clock], None]] = {
            "kit, its default command": lambda clock: by_recipe("maml", clock),
            "kit, maml with learn2learn's settings": lambda clock: with_its_settings(data, clock),
            "learn2learn, its maml and loop": lambda clock: its_loop(data, clock),
        }
        found = race(
            entrants,
            lambda algorithm: evaluate(algorithm, data.validation, **task).mean,
            arguments.every,
            arguments.limit,
        )
    except KitError as error:
        print(f"race.py: {error}", file=sys.stderr)
        return 2
    told = {"episodes": arguments.episodes, "every": arguments.every, "limit": arguments.limit}
    results = told | {"machine": describe(torch.device("cpu")), "entrants": found}
    write_bytes(arguments.results / "results.json", json.dumps(results, indent=1).encode())
    write_bytes(arguments.results / "README.md", page(results).encode())
    draw(results, arguments.results / "race.png")
    print(page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
