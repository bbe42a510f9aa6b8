"""What is attacked: a small training run, a learner and a cached data set, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fewshot_kit import Learner, adapt, algorithms, datasets, models
from fewshot_kit.datasets.files.cache import cached
from fewshot_kit.experiments.running import begun, train
from fewshot_kit.experiments.settings import TrainConfig

GLYPHS = {"classes": 30, "drawings": 6, "image_size": 14}


class Ended(NamedTuple):
    """How a process ended."""

    status: int | None  # its exit status; None: it was killed
    seconds: float


def in_a_process(work: Callable[[], Any], kill_after: float | None = None) -> Ended:
    """Run some work in a forked process, which is killed after so many seconds if it has not ended by then.

    The work's exit status is 0, or 1 after an error; its messages go to stderr.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            work()
            status = 0
        except BaseException as error:
            print(f"soak: {type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(status)
    while True:
        done, code = os.waitpid(child, os.WNOHANG)
        passed = time.perf_counter() - started
        if done:
            return Ended(None if os.WIFSIGNALED(code) else os.WEXITSTATUS(code), passed)
        if kill_after is not None and passed > kill_after:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)


@contextlib.contextmanager
def killed_while_writing(write: int, place: str) -> Any:
    """Inside, the process kills itself in its `write`-th write of a file, at a place of it.

    Args:
        place: `"before"` the file is replaced, `"torn"` with half of the temporary file written, or `"after"`.
    """
    replace, count = os.replace, 0

    def killing(source: Any, target: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count < write:
            replace(source, target, **more)
            return
        if place == "torn":
            os.truncate(source, os.stat(source).st_size // 2)
        if place == "after":
            replace(source, target, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = killing  # type: ignore[assignment]
    try:
        yield
    finally:
        os.replace = replace


def config(run: Path) -> TrainConfig:
    """A run of 24 meta-updates with six checkpoints."""
    return TrainConfig(
        dataset="glyphs", dataset_options=GLYPHS, model="conv4", model_options={"hidden": 4}, algorithm="maml",
        iterations=24, meta_batch=2, validate_every=4, validation_episodes=4, test_episodes=4, queries=2,
        test_queries=2, engine="loop", workers=1, run=str(run),
    )  # fmt: skip


def train_on(run: Path) -> None:
    """Begin the run, or go on with it, to its end."""
    train(config(run), resume=begun(run), progress=False)


def learner() -> Learner:
    """A learner of two classes."""
    network = models.create("conv4", ways=2, hidden=4, image_size=14, seed=0)
    x = torch.rand(4, 1, 14, 14, generator=torch.Generator().manual_seed(0))
    return adapt(algorithms.create("maml", model=network, lr=0.1), (x, ["a", "b", "a", "b"]))


def cache(folder: Path, size: int = 2**20) -> torch.Tensor:
    """A tensor by way of the cache in that folder."""
    os.environ["FEWSHOT_KIT_CACHE"] = str(folder)
    whole = torch.arange(size, dtype=torch.int32)
    return cached("soak", {"size": size}, lambda: (whole, []), lambda x, names: x.shape == whole.shape)[0]


def images() -> datasets.Data[datasets.Split]:
    """The run's data set."""
    data: datasets.Data[datasets.Split] = datasets.create("glyphs", **GLYPHS)
    return data
