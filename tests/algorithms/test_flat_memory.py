"""Nothing is left behind: memory is flat over adaptations, tasks and iterations, for every registered algorithm.

Python's objects are counted, which holds tensors too; resident memory would also show what a graph in C++ keeps.
"""

import gc
import resource
from pathlib import Path

import pytest
import torch
from small_runs import train
from toy import noisy_net

from fewshot_kit import algorithms, engines
from fewshot_kit.seeds import kept_random
from fewshot_kit.testing.algorithm import meta_batch, small_network
from fewshot_kit.training.hooks import Hooks

SPARE = 4  # objects of Python itself, such as caches that fill up; less than one for each repeat
MEGABYTES = 4.0  # resident memory moves by some pages with what the allocator gives back


def objects():
    """Returns their number without those that `gc.freeze` put aside, which need not be looked through."""
    gc.collect()
    return len(gc.get_objects())


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def growth(taken):
    """Returns by how much the least of the later half is above that of the first: threads' memory comes and goes."""
    half = len(taken) // 2
    return min(taken[half:]) - min(taken[:half])


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def ways_to_work(name, long, **options):
    """What is repeated: an adaptation with its predictions, and meta-batches by each engine; if `long`, of points."""
    batch, network = meta_batch(2), small_network()
    if long:
        x, queries = (tensor.flatten(2)[..., :6] for tensor in (batch.support_x, batch.query_x))
        batch, network = batch._replace(support_x=x, query_x=queries), noisy_net()
    algorithm = algorithms.create(name, model=network.double(), **options).double()
    x, y, queries, _ = (tensor[0] for tensor in batch)
    choices = [engines.Choice("loop", workers=2)] + [engines.Choice("vmap")] * (not options.get("checkpoint"))
    yield lambda: algorithm.predict(algorithm.adapt(x, y), queries)
    for choice in choices:
        yield lambda choice=choice: engines.meta_backward(algorithm, batch, choice)


def check_repeats(name, repeats, **options):
    for work in ways_to_work(name, repeats > 100, **options):
        gc.freeze()
        for _ in range(2):
            work()
        before, taken = objects(), [resident()]
        for number in range(repeats):
            work()
            if number % (repeats // 5) == 0:
                taken.append(resident())
        assert objects() - before <= SPARE
        assert growth(taken) <= MEGABYTES or repeats < 100


class Counting(Hooks):
    """Counts from the tenth iteration to the last, when everything is there that a run keeps."""

    def on_iteration(self, training):
        if training.iteration == 10:
            self.objects, self.taken = objects(), []
        if training.iteration % 10 == 0:
            self.taken.append(resident())
        if training.iteration == training.iterations:
            assert objects() - self.objects <= SPARE
            assert growth(self.taken) <= MEGABYTES or training.iteration < 100


def check_iterations(name, iterations):
    with kept_random(torch.device("cpu")):
        classes = {"classes": 8} if name.startswith("baseline") else {}  # those of the training split
        algorithm = algorithms.create(name, model=noisy_net(), **classes)
    gc.freeze()
    train(algorithm, iterations=iterations, validate_every=5, hooks=[Counting()])


@pytest.mark.parametrize("name", algorithms.names())
def test_over_some_tasks(name):
    check_repeats(name, 6)


@pytest.mark.parametrize("options", [{"checkpoint": True}, {"truncate": 1}, {"checkpoint": True, "truncate": 1}])
def test_with_steps_that_are_computed_again(options):
    check_repeats("maml", 6, steps=3, **options)


@pytest.mark.parametrize("name", algorithms.names())
def test_over_some_iterations(name):
    check_iterations(name, 20)


@pytest.mark.long
@pytest.mark.parametrize("name", algorithms.names())
def test_over_a_thousand_tasks_and_iterations(name):
    check_repeats(name, 1000)
    check_iterations(name, 1000)


@pytest.mark.long
def test_over_a_thousand_tasks_with_steps_that_are_computed_again():
    check_repeats("maml", 1000, checkpoint=True, steps=3)
