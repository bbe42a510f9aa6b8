"""Inner steps that are computed again in the outer backward pass: the same gradients, for less memory."""

import weakref

import pytest
import torch
from engine_world import assert_same, batch_for, build, gradients, maml, meta_batch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fewshot_kit import algorithms, engines
from fewshot_kit.engines import Choice
from fewshot_kit.episodes import Episode
from fewshot_kit.errors import InputError

# Every algorithm whose meta-gradient flows through inner steps.
NAMES = ["maml", "fomaml", "anil", "boil", "cavia", "meta_sgd", "meta_curvature", "meta_lstm", "maml_plus_plus"]


def pair(name, network="conv4", **options):
    """An algorithm without and with checkpoints, otherwise equal."""
    made = []
    for more in ({}, {"checkpoint": True}):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = build(network, torch.float64)
            made.append(algorithms.create(name, model=model, **{"steps": 3, "lr": 0.1, **options, **more}).double())
    return made


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch_norm", ["transductive", "support", "running"])
def test_the_same_gradients(name, batch_norm):
    """Bit by bit; `gradients` has losses, scores and the gradients of all parameters, learned rates included."""
    plain, again = pair(name, batch_norm=batch_norm)
    for one, other in zip(gradients(plain, meta_batch()), gradients(again, meta_batch()), strict=True):
        assert torch.equal(one, other)
    assert_same(plain.buffers(), again.buffers(), rtol=0, atol=0)


@pytest.mark.parametrize("network", ["conv4 with pools", "resnet", "mlp", "LSTM", "attention"])
@pytest.mark.parametrize("workers", [1, 2])
def test_of_every_network(network, workers, threads):
    threads(2)
    batch = batch_for(network, torch.float64)
    plain, again = pair("maml", network)
    assert_same(gradients(plain, batch, workers=workers), gradients(again, batch, workers=workers))


@pytest.mark.parametrize(
    "options", [{"optimizer": "adam", "first_order": True}, {"class_means": True}, {"truncate": 2}, {"steps": 0}]
)
def test_with_other_options(options):
    batch = meta_batch()
    assert_same(*(gradients(each, batch) for each in pair("maml", **options)))


class Drawing(nn.Module):
    """Dropout, and buffers that every pass moves: a mean that the output depends on, and a counter."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.norm = nn.Linear(196, 8), nn.Linear(8, 3), nn.BatchNorm1d(8)
        self.register_buffer("mean", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        self.mean = 0.9 * self.mean + x.detach().mean()
        self.seen += len(x)
        features = F.dropout(torch.tanh(self.norm(self.body(x.flatten(1)))), 0.5, self.training)
        return self.head(features * self.mean)


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_is_drawn_anew_or_moved_twice(workers, threads):
    threads(3)
    found, states = [], []
    for options in ({}, {"checkpoint": True}):
        torch.manual_seed(0)
        algorithm = algorithms.create("maml", model=Drawing().double(), lr=0.3, steps=4, **options)
        found.append(gradients(algorithm, meta_batch(), workers=workers) + [b.clone() for b in algorithm.buffers()])
        torch.manual_seed(3)
        engines.meta_backward(algorithm, meta_batch(), "loop", workers=workers)
        states.append(torch.get_rng_state())
    assert_same(*found, rtol=0, atol=0)
    assert torch.equal(*states)


def test_a_gradient_of_the_gradient_and_a_second_backward():
    """Saved tensors are found again as often as they are asked for."""
    x, y, queries, targets = (tensor[0] for tensor in meta_batch(1))
    found = []
    for algorithm in pair("maml", "mlp", steps=2):
        loss = algorithm.criterion(algorithm.predict(algorithm.adapt(x, y), queries), targets)
        parameters = list(algorithm.parameters())
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        third = torch.autograd.grad(sum(g.square().sum() for g in first), parameters, retain_graph=True)
        found.append([*first, *third, *torch.autograd.grad(loss, parameters)])
    assert_same(*found)


class Peak(TorchDispatchMode):
    """Counts the bytes of the tensors that are made inside; `most` is the most at a time."""

    def __init__(self):
        super().__init__()
        self.most, self.alive, self.known = 0, 0, weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        for storage in (t.untyped_storage() for t in tree_leaves(found) if isinstance(t, torch.Tensor)):
            if id(storage) not in given and storage not in self.known:
                self.known.add(storage)
                self.alive += storage.nbytes()
                self.most = max(self.most, self.alive)
                weakref.finalize(storage, self.freed, storage.nbytes())
        return found

    def freed(self, size):
        self.alive -= size


@pytest.mark.parametrize("name", ["maml", "anil", "meta_sgd", "meta_lstm"])
def test_memory_grows_by_what_goes_from_step_to_step(name):
    """By the parameters, and a rule's memory: next to the kept graph, a small part of what a step takes."""
    grown = []
    for options in ({}, {"checkpoint": True}):
        peaks = []
        for steps in (3, 13):
            torch.manual_seed(0)
            algorithm = algorithms.create(name, model=build("conv4", torch.float64), steps=steps, **options).double()
            task = Episode(*(tensor[0] for tensor in meta_batch(1, shots=8)))
            with Peak() as peak:
                algorithm.loss(task)[0].backward()
            peaks.append(peak.most)
        grown.append((peaks[1] - peaks[0]) / 10)
    adapting = sum(p.nbytes for p in algorithm.initial().values())
    carried = 1 + (2 + 2 * 20 if name == "meta_lstm" else 0)  # two gates, and two states of 20 units
    assert grown[1] < 1.5 * carried * adapting < grown[0]


def test_a_step_that_is_not_the_same_again_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 3)).double()
    passes = iter([torch.tanh])  # of the first pass alone
    model.register_forward_hook(lambda module, inputs, output: next(passes, torch.clone)(output))
    algorithm = algorithms.create("maml", model=model, checkpoint=True, steps=2)
    with pytest.raises(InputError, match="did not do the same when checkpoint=True computed it again; leave"):
        engines.meta_backward(algorithm, meta_batch(), "loop")


def test_vmap_cannot_and_auto_takes_the_loop():
    algorithm = maml(checkpoint=True)
    with pytest.raises(InputError, match=r"'vmap' cannot run this: checkpoint=True in MAML .* take engine='loop'"):
        engines.meta_backward(algorithm, meta_batch(), "vmap")
    choice = engines.choose(algorithm, meta_batch())
    assert choice.engine == "loop" and choice.why.startswith("vmap cannot run it: checkpoint=True in MAML")
    with pytest.raises(InputError, match="This cannot be compiled: checkpoint=True in MAML .* leave --compile out"):
        engines.choose(algorithm, meta_batch(), compile=True)
    scores = Choice("vmap").predict(algorithm, meta_batch())  # without a graph there is nothing to compute again
    assert_same([scores], [Choice("loop").predict(algorithm, meta_batch())])


@pytest.mark.parametrize("name", ["reptile", "imaml", "finetune", "lp_ft"])
@pytest.mark.parametrize("option, said", [({"checkpoint": True}, "checkpoint=True"), ({"truncate": 1}, "truncate=1")])
def test_whom_it_is_not_for(name, option, said):
    with pytest.raises(InputError, match=f"does not flow through the inner steps; leave {said} out"):
        algorithms.create(name, model=build("mlp", torch.float64), **option)
