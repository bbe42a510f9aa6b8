"""Convolutions as products of matrices, which is tried on a GPU."""

import contextlib

import pytest
import torch
from engine_world import assert_same, batch_for, build, gradients, meta_batch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.engines import selection as choosing
from fewshot_kit.engines import timing as measuring
from fewshot_kit.engines.convolutions import conv2d
from fewshot_kit.engines.refusals import Refused

UNFOLDED = engines.Choice("vmap", unfold=True)


@pytest.mark.parametrize("network", ["conv4", "conv4 with pools", "resnet"])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("name", ["maml", "anil"])
def test_the_gradients_are_the_same(name, first_order, network):
    model, batch = build(network, torch.float64), batch_for(network, torch.float64)
    algorithm = algorithms.create(name, model=model, lr=0.2, steps=2, first_order=first_order).train()
    assert_same(gradients(algorithm, batch, UNFOLDED), gradients(algorithm, batch, "reference"))
    assert_same([UNFOLDED.predict(algorithm, batch)], [engines.Choice("loop").predict(algorithm, batch)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 1},
        {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)},
        {"stride": (3,), "padding": (1,)},
        {"padding": "same"},
        {"groups": 2},
    ],
)
def test_every_option_of_a_convolution(options):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 4, 9, 8, generator=generator, dtype=torch.float64)
    kernel = (3, 3) if options.get("padding") == "same" else (3, 2)
    weight = torch.rand(6, 4 // options.get("groups", 1), *kernel, generator=generator, dtype=torch.float64)
    bias = torch.rand(6, generator=generator, dtype=torch.float64)
    for given in (None, bias):
        torch.testing.assert_close(conv2d(x, weight, given, **options), F.conv2d(x, weight, given, **options))
    torch.testing.assert_close(conv2d(x[0], weight, bias, **options), F.conv2d(x[0], weight, bias, **options))


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Measuring believes that the algorithm is on a GPU; seconds are looked up by the name of the choice."""

    def take(seconds):
        for module in (measuring, choosing):
            monkeypatch.setattr(module, "seconds_of", lambda choice, *_: seconds[choice.name])
        monkeypatch.setattr(measuring, "device_of", lambda _: torch.device("cuda"))
        monkeypatch.setattr(measuring, "kept_random", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(measuring.loop, "convolutional_on_cpu", lambda _: False)

    return take


def test_who_fails_is_left_out(on_a_gpu, monkeypatch):
    on_a_gpu({})

    def fails(choice, *_):
        if choice.unfold:
            raise Refused("no memory", "")
        return {"loop": 3.0, "vmap": 1.0}[choice.engine]

    for module in (measuring, choosing):
        monkeypatch.setattr(module, "seconds_of", fails)
    algorithm = algorithms.create("maml", model=build("conv4", torch.float64))
    choice = engines.choose(algorithm, meta_batch())
    said = "vmap 1000.0 ms, vmap by unfolding failed (no memory)"
    assert choice.name == "vmap" and choice.why == f"measured on 5 episodes: loop on 1 worker 3000.0 ms, {said}"
    choice = engines.choose(algorithm, meta_batch(), compile=True)
    assert (choice.name, choice.compiled, choice.why) == ("vmap", True, f"compiled in 0.0 s; {said}")


@pytest.mark.parametrize("unfolding, taken", [(0.5, "vmap by unfolding"), (1.5, "vmap")])
def test_auto_tries_it_on_a_gpu(on_a_gpu, unfolding, taken):
    on_a_gpu({"loop on 1 worker": 3.0, "vmap": 1.0, "vmap by unfolding": unfolding})
    algorithm = algorithms.create("maml", model=build("conv4", torch.float64))
    choice = engines.choose(algorithm, meta_batch())
    assert (choice.name, choice.settings()["unfold"]) == (taken, taken != "vmap")
    said = f"loop on 1 worker 3000.0 ms, vmap 1000.0 ms, vmap by unfolding {1e3 * unfolding:.1f} ms"
    assert choice.why == f"measured on 5 episodes: {said}"
    compiled = engines.choose(algorithm, meta_batch(), compile=True)
    assert (compiled.name, compiled.compiled, compiled.program.unfold) == (taken, True, taken != "vmap")
    assert compiled.why == f"compiled in 0.0 s; vmap 1000.0 ms, vmap by unfolding {1e3 * unfolding:.1f} ms"


def test_where_no_convolution_adapts_it_is_not_tried(on_a_gpu):
    on_a_gpu({"loop on 1 worker": 3.0, "factored": 2.0, "vmap": 1.0})
    mlp = nn.Sequential(nn.Flatten(), nn.Linear(196, 3)).double()
    anil = algorithms.create("anil", model=build("conv4", torch.float64))  # whose head adapts
    for algorithm in (algorithms.create("maml", model=mlp), anil):
        assert engines.choose(algorithm, meta_batch()).name == "vmap"
