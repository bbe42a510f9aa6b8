"""`meta_backward` with `engine="auto"` measures once for an algorithm and a kind of meta-batch."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from engine_world import assert_same, build, gradients, maml, meta_batch
from torch import nn

from fewshot_kit import algorithms, engines
from fewshot_kit.engines.remembered import _remembered, remembered


@pytest.fixture
def measurements(monkeypatch):
    """The tasks of each meta-batch that was measured; the loop is taken, on two workers for convolutional nets."""
    tasks = []

    def measured(looped, mapped, algorithm, episodes):
        tasks.append(len(episodes.support_x))
        return looped

    monkeypatch.setattr("fewshot_kit.engines.selection.measured", measured)
    return tasks


def dense(**options):
    return algorithms.create("maml", model=build("mlp", torch.float64), lr=0.3, **options)


def test_a_loop_of_ones_own_measures_once(measurements):
    algorithm = dense()
    for _ in range(3):
        engines.meta_backward(algorithm, meta_batch())
        with torch.no_grad():
            for parameter in algorithm.parameters():
                parameter.sub_(0.01 * parameter.grad)
        algorithm.lr *= 0.9
    assert measurements == [5]


def test_each_algorithm_and_each_copy_is_measured_by_itself(measurements):
    first = dense()
    for algorithm in (first, dense(), copy.deepcopy(first), pickle.loads(pickle.dumps(first)), first):
        engines.meta_backward(algorithm, meta_batch())
    assert measurements == [5, 5, 5, 5]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: setattr(a, "steps", 2),
        lambda a: setattr(a, "first_order", True),
        lambda a: setattr(a, "batch_norm", "support"),
        lambda a: a.eval(),
        lambda a: next(a.parameters()).requires_grad_(False),
        lambda a: a.model.append(nn.Identity()),
    ],
)
def test_what_changes_the_times_is_measured_anew(measurements, change):
    algorithm = algorithms.create("maml", model=nn.Sequential(nn.Flatten(), nn.Linear(196, 3)).double().train())
    engines.meta_backward(algorithm, meta_batch())
    change(algorithm)
    engines.meta_backward(algorithm, meta_batch())
    assert measurements == [5, 5]


def test_other_meta_batches_are_measured_anew_and_earlier_ones_are_remembered(measurements, threads):
    algorithm = dense()
    batches = [meta_batch(), meta_batch(tasks=4), meta_batch(shots=1), meta_batch(queries=1)]
    for batch in batches + batches:
        engines.meta_backward(algorithm, batch)
    assert measurements == [5, 4, 5, 5]
    engines.meta_backward(algorithm.float(), meta_batch(dtype=torch.float32))
    assert measurements == [5, 4, 5, 5, 5]
    for _ in range(2):
        engines.meta_backward(algorithm, meta_batch(dtype=torch.float32), chunk=2)
    assert measurements == [5, 4, 5, 5, 5, 5]
    threads(torch.get_num_threads() + 1)
    engines.meta_backward(algorithm, meta_batch(dtype=torch.float32), chunk=2)
    assert measurements == [5, 4, 5, 5, 5, 5, 5]


def test_a_named_engine_and_a_choice_measure_nothing(measurements):
    algorithm = dense()
    for engine in ("loop", "vmap", engines.Choice("vmap")):
        engines.meta_backward(algorithm, meta_batch(), engine)
    assert measurements == []


def test_what_is_remembered_gives_todays_gradients(measurements, threads):
    threads(2)
    algorithm = maml()
    for _ in range(2):
        assert_same(gradients(algorithm, meta_batch(), "auto"), gradients(algorithm, meta_batch(), "loop"), 0, 0)
        with torch.no_grad():
            for parameter in algorithm.parameters():
                parameter.add_(0.01)
    assert measurements == [5]


class Bound(algorithms.MAML):
    """With a method of its own among its attributes."""

    def __init__(self, model):
        super().__init__(model, lr=0.3)
        self.criterion = self.measure

    def measure(self, scores, targets):
        return nn.functional.cross_entropy(scores, targets)


@pytest.mark.parametrize("make", [maml, lambda: Bound(maml().model)])
def test_an_algorithm_that_nobody_holds_is_let_go(measurements, threads, make):
    threads(2)
    algorithm = make()
    engines.meta_backward(algorithm, meta_batch())
    (choice,) = _remembered[algorithm].values()
    copies = [weakref.ref(one) for one in choice.copies.made]
    algorithm, held = None, [weakref.ref(algorithm), *copies]
    del choice
    gc.collect()
    gc.collect()  # an algorithm in a circle is let go by the first, its copies, in circles of their own, by the second
    assert len(held) == 3 and all(one() is None for one in held)


def test_copies_are_kept_for_the_last_kind_of_meta_batch_only(measurements, threads):
    threads(2)
    algorithm = maml()
    for batch in (meta_batch(), meta_batch(tasks=4)):
        engines.meta_backward(algorithm, batch)
    assert len(remembered(algorithm, meta_batch(tasks=4)).copies.made) == 2
    assert remembered(algorithm, meta_batch()).copies.made == []
