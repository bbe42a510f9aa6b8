"""Which engine is taken, why, and what is refused."""

import re

import pytest
import torch
from engine_world import Branching, build, maml, meta_batch
from torch import nn

from fewshot_kit import algorithms, engines, models
from fewshot_kit.errors import InputError


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 3 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return torch.from_numpy(3 * g.numpy())


class Tripled(nn.Module):
    def forward(self, x):
        return Once.apply(x)


def test_auto_says_what_it_took_and_why(threads):
    threads(2)
    choice = engines.choose(maml(), meta_batch())
    assert choice.engine in ("loop", "vmap")
    assert choice.why.startswith("measured on 5 episodes: loop on 2 workers ")
    assert re.search(r", vmap in chunks of \d \S+ ms, vmap in chunks of \d on 2 workers \S+ ms$", choice.why)


# Seconds for a task: of the loop, and of vmap by the size of its chunks and its workers.
@pytest.mark.parametrize(
    "loop, chunks, taken, tried",
    [
        (2.0, {2: 3.0, 4: 2.2, 8: 1.5, 16: 1.3, (8, 2): 1.2}, "vmap in chunks of 8 on 2 workers", [2, 4, 8, 16]),
        (2.0, {2: 3.0, 4: 2.2, 8: 1.5, 16: 1.4, (8, 2): 1.6}, "vmap in chunks of 8", [2, 4, 8, 16]),  # 16: not worth it
        (2.0, {2: 3.0, 4: 2.8, (2, 2): 2.5}, "loop on 2 workers", [2, 4]),  # 4 is not worth it
        (2.0, {2: 3.0, 4: 2.5, 8: 2.4, (4, 2): 1.9}, "loop on 2 workers", [2, 4, 8]),  # not clearly better
    ],
)
def test_larger_chunks_are_tried_while_they_pay(monkeypatch, threads, loop, chunks, taken, tried):
    threads(2)
    asked = []

    def seconds(choice, probe, episodes):
        tasks = len(episodes.support_x)
        if choice.engine == "loop":
            return loop * tasks
        asked.extend([tasks] if choice.chunk is None and tasks not in asked else [])
        size = choice.chunk or tasks
        return tasks * chunks[(size, 2) if choice.workers else size]

    monkeypatch.setattr("fewshot_kit.engines.timing.seconds_of", seconds)
    choice = engines.choose(maml(), meta_batch(20))
    assert (choice.name, asked) == (taken, tried)
    assert choice.why.startswith(f"measured on 16 episodes: loop on 2 workers {16e3 * loop:.1f} ms, ")


def test_large_convolutions_go_to_the_loop_untried(monkeypatch):
    """16 channels of 28 x 28, 14 x 14, 7 x 7 and 3 x 3 of float32 each, and the 12 images of a task."""
    model = models.create("conv4", ways=3, hidden=16, image_size=28, downsample="pool")
    algorithm, batch = algorithms.create("maml", model=model), meta_batch(dtype=torch.float32)
    batch = batch._replace(support_x=torch.rand(5, 6, 1, 28, 28), query_x=torch.rand(5, 6, 1, 28, 28))
    size = 4 * 16 * (28**2 + 14**2 + 7**2 + 3**2) * 12
    monkeypatch.setattr("fewshot_kit.engines.timing.LARGEST", size - 1)
    choice = engines.choose(algorithm, batch)
    assert choice.engine == "loop" and not model.blocks[0][0]._forward_hooks
    assert choice.why == "its convolutions give 0.8 MB a task; on a CPU vmap is tried up to 0.8 MB"
    monkeypatch.setattr("fewshot_kit.engines.timing.LARGEST", size)
    assert engines.choose(algorithm, batch).why.startswith("measured on 5 episodes")


def test_evaluation_of_convolutional_nets_goes_by_the_loop(threads):
    threads(2)
    mapped = engines.Choice("vmap", chunk=4, workers=2)
    assert mapped.for_evaluation(maml()).name == "loop on 2 workers"
    dense = algorithms.create("maml", model=nn.Sequential(nn.Flatten(), nn.Linear(196, 3)))
    assert mapped.for_evaluation(dense) is mapped


def test_auto_goes_to_the_loop_where_vmap_cannot():
    choice = engines.choose(algorithms.create("maml", model=Branching().double()), meta_batch())
    assert choice.engine == "loop"
    assert choice.why == "vmap cannot run it: control flow that depends on values in Branching does not vectorise"
    assert engines.usual(algorithms.create("maml", model=Branching().double()), meta_batch()).engine == "loop"
    assert engines.usual(algorithms.create("maml", model=build("mlp", torch.float64)), meta_batch()).engine == "vmap"


class Doubled(torch.autograd.Function):
    """2 x, but 3 x under `vmap`."""

    @staticmethod
    def forward(x):
        return 2 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, g):
        return 2 * g

    @staticmethod
    def vmap(info, in_dims, x):
        return 3 * x, in_dims[0]


def test_auto_goes_to_the_loop_where_vmap_is_fast_and_wrong(monkeypatch, threads):
    threads(1)
    monkeypatch.setattr(
        "fewshot_kit.engines.timing.seconds_of",
        lambda choice, *_: {"loop": 3.0, "factored": 2.0, "vmap": 1.0}[choice.engine],
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 3)).double()
    choice = engines.choose(algorithms.create("maml", model=model), meta_batch())
    said = "loop on 1 worker 3000.0 ms, factored 2000.0 ms, vmap 1000.0 ms"
    assert choice.engine == "vmap" and choice.why == f"measured on 5 episodes: {said}"
    model.register_forward_hook(lambda module, inputs, output: Doubled.apply(output))
    choice = engines.choose(algorithms.create("maml", model=model), meta_batch())
    assert choice.engine == "loop"
    assert re.fullmatch(r"vmap gets it wrong: its gradient is \S+ off that of the loop", choice.why)


def test_what_has_no_second_derivative_is_named():
    model = nn.Sequential(nn.Flatten(), nn.Linear(196, 4), Tripled(), nn.Tanh(), nn.Linear(4, 3)).double()
    algorithm = algorithms.create("maml", model=model)
    with pytest.raises(
        InputError, match=r"a function of its own in the Tripled '2' has no second derivative; take first_order=True"
    ):
        engines.meta_backward(algorithm, meta_batch(), "loop")
    engines.meta_backward(algorithms.create("fomaml", model=model), meta_batch(), "loop")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"engine": "warp"}, "'warp'; it is one of auto, factored, vmap, loop, reference"),
        ({"engine": "vmap", "chunk": 6}, "chunk is 6, more than the 5 episodes of a meta-batch"),
        ({"engine": "vmap", "chunk": 0}, "chunk is 0"),
        ({"engine": "loop", "chunk": 2}, "Only the engines 'factored' and 'vmap' have chunks"),
        ({"engine": "loop", "workers": 0}, "workers is 0"),
        ({"engine": "vmap", "workers": 0}, "workers is 0"),
        ({"engine": "reference", "workers": 2}, "The engine 'reference' has no workers; leave workers=2 out"),
        ({"compile": True, "workers": 2}, "A compiled program has no workers; leave workers=2 out"),
        ({"engine": "loop", "compile": True}, "Only the engines 'factored' and 'vmap' can be compiled, not 'loop'"),
        ({"workers": 2, "unfold": True}, "With workers 'auto' takes the loop, which unfolds no convolutions"),
        ({"engine": "loop", "unfold": True}, "Only the engine 'vmap' unfolds convolutions, not 'loop'"),
    ],
)
def test_settings_that_do_not_fit_are_named(options, said):
    with pytest.raises(InputError, match=said):
        engines.choose(maml(), meta_batch(), **options)


def test_workers_are_of_a_cpu():
    with pytest.raises(InputError, match="Workers are threads of a CPU, and this runs on 'meta'; leave workers=2 out"):
        engines.choose(maml().to("meta"), meta_batch().to("meta"), "vmap", workers=2)


def test_algorithms_without_a_reference_are_named():
    finetune = algorithms.create("finetune", model=nn.Linear(2, 2))
    with pytest.raises(InputError, match="Finetune has no reference"):
        engines.meta_backward(finetune, meta_batch(), "reference")
    with pytest.raises(InputError, match="know no batch_norm='support'"):
        engines.meta_backward(maml(batch_norm="support"), meta_batch(), "reference")
