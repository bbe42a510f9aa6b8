"""`--compile`: the whole meta-gradient as one program."""

import pytest
import torch
from engine_world import Branching, assert_same, gradients, meta_batch
from torch import nn

from fewshot_kit import algorithms, engines
from fewshot_kit.engines import compiled, loop
from fewshot_kit.errors import InputError


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(196, 4), nn.BatchNorm1d(4), nn.SiLU(), nn.Linear(4, 3))
    model[1].bias.requires_grad_(False)
    model.register_parameter("never_used", nn.Parameter(torch.ones(2)))
    return model.double()


def test_a_compiled_meta_gradient_is_the_same():
    algorithm, batch = algorithms.create("maml", model=network(), lr=0.2, steps=2).train(), meta_batch(4)
    choice = engines.choose(algorithm, batch, compile=True, chunk=2)
    assert (choice.engine, choice.compiled, choice.chunk) == ("vmap", True, 2)
    assert choice.why.startswith("compiled in ")
    seconds = choice.program.seconds
    assert seconds > 0
    expected = gradients(algorithm, batch, "loop")
    assert_same(gradients(algorithm, batch, choice), expected)
    assert algorithm.model.never_used.grad is None and algorithm.model[1].bias.grad is None
    with torch.no_grad():  # other weights, the same program
        algorithm.model[1].weight.mul_(1.5)
    assert_same(gradients(algorithm, batch, choice), gradients(algorithm, batch, "loop"))
    assert choice.program.seconds == seconds


def test_a_program_serves_what_it_was_made_for_alone(monkeypatch):
    """Nothing checks a program's inputs, so another layout or option has to make another one."""
    made = []
    monkeypatch.setattr(compiled, "unguarded", lambda recorded, inputs: made.append(inputs) or recorded)
    algorithm, batch = algorithms.create("maml", model=network(), lr=0.2), meta_batch(2)
    program = compiled.Program("vmap")
    assert_same(program(algorithm, batch).gradients[:1], loop.run(algorithm, batch).gradients[:1])
    program(algorithm, batch._replace(query_x=batch.query_x + 1))
    assert len(made) == 1
    program(algorithm, batch._replace(query_x=batch.query_x.transpose(0, 1).contiguous().transpose(0, 1)))
    assert len(made) == 2
    algorithm.lr = 0.05
    assert_same(program(algorithm, batch).gradients[:1], loop.run(algorithm, batch).gradients[:1])
    algorithm.eval()
    program(algorithm, batch)
    assert len(made) == 4


@pytest.mark.parametrize("first_order", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_compiled_factored_meta_gradient_is_the_same(first_order):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(196, 12), nn.BatchNorm1d(12), nn.SiLU(), nn.Linear(12, 3)
        ).double()
    algorithm, batch = algorithms.create("maml", model=model, lr=0.2, steps=2, first_order=first_order), meta_batch(4)
    choice = engines.choose(algorithm, batch, "factored", compile=True)
    assert (choice.engine, choice.compiled, choice.program.engine) == ("factored", True, "factored")
    assert_same(gradients(algorithm, batch, choice), gradients(algorithm, batch, "loop"))


@pytest.mark.parametrize("fastest", ["factored", "vmap"])
def test_the_faster_engine_is_compiled(monkeypatch, fastest):
    for module in ("timing", "selection"):
        monkeypatch.setattr(f"fewshot_kit.engines.{module}.seconds_of", lambda choice, *_: choice.engine != fastest)
    algorithm = algorithms.create("maml", model=nn.Sequential(nn.Flatten(), nn.Linear(196, 3)).double())
    assert engines.choose(algorithm, meta_batch(2), compile=True).engine == fastest


def test_what_cannot_be_vectorised_cannot_be_compiled():
    algorithm = algorithms.create("maml", model=Branching().double())
    with pytest.raises(InputError, match="This cannot be compiled: control flow that depends on values in Branching"):
        engines.choose(algorithm, meta_batch(), compile=True)


def test_a_compiler_that_fails_is_done_without(monkeypatch):
    def fails(*args, **options):
        raise OSError("no C++ compiler found")

    monkeypatch.setattr(compiled, "unguarded", fails)
    algorithm = algorithms.create("maml", model=network(), lr=0.2)
    choice = engines.choose(algorithm, meta_batch(2), compile=True)
    assert (choice.engine, choice.compiled) == ("vmap", False)
    assert choice.why == "compiling failed (OSError: no C++ compiler found); vmap runs without"
    gradients(algorithm, meta_batch(2), choice)
