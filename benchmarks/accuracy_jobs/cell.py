"""A cell: what is trained and tested, once for every seed, and kept under a hash of all that decides its figures."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from speed_jobs.machine import describe

from fewshot_kit import Algorithm, datasets, evaluate
from fewshot_kit.algorithms.bases.replacing import with_options
from fewshot_kit.datasets.splits.contract import DataSet, LabelledSplit, TaskSplit
from fewshot_kit.evaluation import Evaluation
from fewshot_kit.experiments import running as experiment
from fewshot_kit.experiments.settings import TrainConfig, from_recipe
from fewshot_kit.modules.layers import batch_norms
from fewshot_kit.options import options_of

CHOOSING = 40  # episodes of the training classes by which options are chosen


@dataclass(frozen=True)
class Test:
    """One figure of a cell."""

    name: str  # its column
    ways: int
    shots: int
    options: dict[str, Any] = field(default_factory=dict)  # of the algorithm, replaced for this figure


@dataclass(frozen=True)
class Cell:
    """What is asked for on top of an algorithm's recipe, and the figures that one training gives."""

    settings: dict[str, Any]
    tests: tuple[Test, ...]
    episodes: int = 600
    choices: tuple[dict[str, Any], ...] = ()  # the one that does best on the training classes is taken
    by_queries: bool = False  # whether it is tested by batch norm of the queries too, where its own is another

    def config(self, seed: int, root: str | None = None) -> TrainConfig:
        """The settings of one training; the seed is that of the split, the weights and the episodes."""
        takes = options_of(datasets.get(self.settings["dataset"])).parameters
        dataset = {
            name: value for name, value in (("seed", seed), ("root", root)) if name in takes and value is not None
        }
        # The loop, by name: the fastest engine found may be another one another time, and round otherwise.
        usual = {"engine": "loop", "test_episodes": self.episodes, "dataset_options": dataset, "seed": seed}
        more = {"dataset_options": dataset | self.settings.get("dataset_options", {})}
        return TrainConfig(**from_recipe(usual | self.settings | more))

    def key(self, seed: int) -> str:
        """A hash of the recipe, its start's too."""
        config: TrainConfig | None = self.config(seed)
        told: list[Any] = [[dataclasses.asdict(test) for test in self.tests], self.choices]
        while config is not None:
            told.append(config.told())
            config = experiment.earlier(config)
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def run(cell: Cell, name: str, seed: int, runs: Path, root: str | None) -> dict[str, Any]:
    """Train (or go on training) and test a cell with one seed; what is worth keeping of it."""
    config = experiment.with_folder(cell.config(seed, root), runs)
    first, seconds = experiment.earlier(config), {}
    if first is not None and not experiment.finished(first.folder()):
        started = experiment.train(first, resume=experiment.begun(first.folder()))[2]
        seconds["start"] = round(started.seconds, 1)
    resumed = experiment.begun(config.folder())
    data, algorithm, training = experiment.train(config, resume=resumed)
    seconds |= {} if resumed else {"training": round(training.seconds, 1)}
    clock = time.perf_counter()
    chosen = max(cell.choices, key=lambda options: _on_training(algorithm, data, cell, options, seed), default={})
    with_options(algorithm, **chosen)
    figures = {test.name: _tested(algorithm, data.test, test, cell, seed) for test in cell.tests}
    seconds["test"] = round(time.perf_counter() - clock, 1)
    return {
        "cell": name,
        "seed": seed,
        "key": cell.key(seed),
        "settings": _brief(config),
        "start": _brief(first) if first is not None else None,
        "chosen": chosen or None,
        "figures": figures,
        "data": data.name,
        "weights": training.weights if training.iterations else None,
        "classes": {
            name: len(split.classes)
            for name, split in (("train", data.train), ("test", data.test))
            if isinstance(split, LabelledSplit)
        },
        "seconds": seconds,
        "code": _code(),
        "machine": describe(torch.device("cpu")) | {"threads": torch.get_num_threads()},
    }


def _brief(config: TrainConfig) -> dict[str, Any]:
    """The settings, less where things lie."""
    settings = config.told()
    settings["dataset_options"] = {name: value for name, value in settings["dataset_options"].items() if name != "root"}
    started = settings.pop("run")
    return {name: value for name, value in settings.items() if value not in (None, "", {}) and value != started}


def _on_training(algorithm: Algorithm, data: DataSet, cell: Cell, options: dict[str, Any], seed: int) -> float:
    """How options do on the training classes, which are no less unseen than others where nothing was trained."""
    tried, test = with_options(copy.copy(algorithm), **options), cell.tests[0]
    return evaluate(tried, data.train, ways=test.ways, shots=test.shots, episodes=CHOOSING, seed=seed).mean


def _tested(algorithm: Algorithm, split: TaskSplit, test: Test, cell: Cell, seed: int) -> dict[str, Any]:
    """By the algorithm's own batch-norm policy, by an inductive one, and by most papers', where that is asked for."""
    tested = with_options(copy.copy(algorithm), **test.options)
    own = getattr(tested, "batch_norm", None)
    policies = {"own": own, "inductive": own}
    if own is not None and batch_norms(tested.model):
        policies["inductive"] = "support" if own == "transductive" else own
        policies |= {"transductive": "transductive"} if cell.by_queries else {}
    found = {
        policy: evaluate(
            tested, split, ways=test.ways, shots=test.shots, episodes=cell.episodes, seed=seed, batch_norm=policy
        )
        for policy in set(policies.values())
    }
    return {name: _figure(found[policy]) for name, policy in policies.items()}


def _figure(found: Evaluation) -> dict[str, Any]:
    names = (found.measure, "interval", "ways", "shots", "queries", "episodes", "batch_norm", "transductive")
    return {name: value for name, value in found.to_dict().items() if name in names}


def _code() -> str:
    """The commit that was run, and whether it was changed since."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    return told.stdout.strip() or "unknown"
