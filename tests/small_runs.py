"""Meta-training on the small world, in seconds, and ways to stop it."""

import os
from pathlib import Path

import torch
from toy import Centroids, noisy_net, world

from fewshot_kit.algorithms import MAML
from fewshot_kit.runs.storage import read, write
from fewshot_kit.training.hooks import Hooks
from fewshot_kit.training.outer_loop import meta_train

SMALL = {
    "ways": 3,
    "shots": 2,
    "queries": 4,
    "meta_batch": 3,
    "validate_every": 4,
    "validation_episodes": 5,
    "validation_queries": 4,
    "meta_lr": 0.01,
    "schedule": "constant",
    "engine": "loop",  # two runs with "auto" may not take the same one
    "progress": False,
}


def train(algorithm, data=None, **settings):
    return meta_train(algorithm, data or world(), **{**SMALL, **settings})


def centroids():
    return Centroids(noisy_net())


def maml():
    return MAML(noisy_net(), lr=0.1)


class Killed(Exception):
    pass


class KillAt(Hooks):
    def __init__(self, iteration, with_signal=None):
        self.iteration, self.signal = iteration, with_signal

    def on_iteration(self, training):
        if training.iteration == self.iteration:
            if self.signal is None:
                raise Killed
            os.kill(os.getpid(), self.signal)


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lines(run):
    return (run / "metrics.jsonl").read_bytes()


def forget_digests(run):
    """Makes a run as one of an earlier version, whose checkpoints say nothing of the other files."""
    for path in Path(run).glob("checkpoints/*.safetensors"):
        tensors, meta = read(path)
        if meta["kept"] is not None:
            meta["kept"].pop("sha256", None)
        write(path, tensors, meta)
