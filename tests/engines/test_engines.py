"""The engines: the same gradients from all of them, in any chunk and on any number of workers, and no race."""

import pytest
import torch
from engine_world import NETWORKS, assert_same, batch_for, build, gradients, maml, meta_batch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import algorithms, engines
from fewshot_kit.engines import loop, vmap
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.errors import InputError
from fewshot_kit.modules.batch_norm_gradient import by_its_batch


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("name", ["maml", "anil", "boil"])
def test_every_engine_gives_the_same(threads, name, first_order, network):
    """In float64 on every network: a float32 net with ReLU or max-pool has no well-defined gradient near a tie."""
    threads(2)
    model, batch = build(network, torch.float64), batch_for(network, torch.float64)
    algorithm = algorithms.create(name, model=model, lr=0.2, steps=2, first_order=first_order).train()
    reference = gradients(algorithm, batch, "reference")
    assert_same(gradients(algorithm, batch, "loop"), reference)
    if network == "LSTM":
        with pytest.raises(
            InputError, match=r"'vmap' cannot run this: \w*:*lstm in the LSTM 'lstm'.*take engine='loop'"
        ):
            gradients(algorithm, batch, "vmap")
    else:
        for chunk in (None, 1, 3):
            assert_same(gradients(algorithm, batch, "vmap", chunk=chunk), reference)


NORMS = {
    "batch, running": nn.BatchNorm2d(4),
    "batch": nn.BatchNorm2d(4, track_running_stats=False, affine=False),
    "instance": nn.InstanceNorm2d(4, affine=True),
    "group": nn.GroupNorm(2, 4),
    "layer": nn.LayerNorm((4, 5, 5)),
    "local response": nn.LocalResponseNorm(2),
    "RMS": nn.RMSNorm((4, 5, 5)),
}


@pytest.mark.parametrize("norm", NORMS)
def test_no_norm_has_a_wrong_second_derivative(norm):
    """PyTorch's own batching of batch, instance and layer norm does: silently, by a percent and more."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 4, 5, 2), NORMS[norm], nn.Tanh(), nn.Flatten(), nn.Linear(100, 3)).double()
    algorithm = algorithms.create("maml", model=model, lr=0.2, batch_norm="transductive")
    batch = meta_batch()
    assert_same(gradients(algorithm, batch, "vmap"), gradients(algorithm, batch, "reference"))


@pytest.mark.parametrize("network", ["mlp", "attention"])
@pytest.mark.parametrize("first_order", [False, True])
def test_every_engine_gives_the_same_in_float32(network, first_order):
    class Smooth(nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = nn.Sequential(nn.Flatten(), nn.Linear(196, 16), nn.SiLU(), nn.Linear(16, 3))

        def forward(self, x):
            return self.inside(x)

    model = Smooth() if network == "mlp" else build(network, torch.float32)
    algorithm = algorithms.create("maml", model=model, lr=0.1, steps=2, first_order=first_order)
    batch = meta_batch(4, dtype=torch.float32)
    reference = gradients(algorithm, batch, "reference")
    for engine in ("loop", "vmap"):
        assert_same(gradients(algorithm, batch, engine), reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("workers", [2, 3, 8])
@pytest.mark.parametrize("engine", [{"engine": "loop"}, {"engine": "vmap"}, {"engine": "vmap", "chunk": 2}])
def test_workers_change_nothing(engine, workers, first_order):
    algorithm, batch = maml(first_order=first_order), meta_batch()
    before = torch.get_num_threads()
    assert_same(gradients(algorithm, batch, **engine, workers=workers), gradients(algorithm, batch, workers=1))
    assert torch.get_num_threads() == before


def test_predictions_are_those_of_one_task_at_a_time(threads):
    threads(2)
    algorithm, batch = maml(batch_norm="support"), meta_batch()
    expected = [algorithm.predict(algorithm.adapt(t.support_x, t.support_y), t.query_x) for t in unstack(batch)]
    for scores in (loop.predict(algorithm, batch), vmap.predict(algorithm, batch), vmap.predict(algorithm, batch, 2)):
        assert not scores.requires_grad
        assert_same(scores, [one.detach() for one in expected])


def test_the_order_of_the_tasks_is_kept(threads):
    threads(3)
    algorithm, batch = maml(), meta_batch()
    losses, scores, *_ = gradients(algorithm, batch)
    for task, loss, score in zip(unstack(batch), losses, scores, strict=True):
        expected = algorithm.loss(task)
        torch.testing.assert_close((loss, score), tuple(t.detach() for t in expected))


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_dropout_is_drawn_by_the_seed(threads, engine):
    """By workers it would depend on which is first; the same seed has to give the same draws, every time."""
    threads(3)
    algorithm, batch = maml(nn.Dropout(0.5)).train(), meta_batch()
    first, again, other = (gradients(algorithm, batch, engine, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    assert_same(gradients(algorithm, batch, engine, 1, workers=3), first)
    threads(1)
    torch.testing.assert_close(gradients(algorithm, batch, engine, 1), first)


def test_vmap_draws_dropout_for_each_task():
    algorithm = algorithms.create(
        "maml", model=nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(196, 3)).double()
    )
    one = meta_batch(1)
    same = Episode(*(torch.cat([tensor] * 3) for tensor in one))
    losses = gradients(algorithm.train(), same, "vmap")[0]
    assert len(losses.unique()) == 3
    assert len(gradients(algorithm.eval(), same, "vmap")[0].unique()) == 1


def test_vmap_gives_every_task_buffers_of_its_own():
    """Written in place, as a running statistic is: what a task leaves there is no other's business, nor the model's."""

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(196, 3)
            self.register_buffer("mean", torch.zeros(()))

        def forward(self, x):
            self.mean.mul_(0.5).add_(x.mean())
            return self.head(x.flatten(1)) * self.mean

    algorithm = algorithms.create("maml", model=Counting().double(), lr=0.1)
    assert_same(gradients(algorithm, meta_batch(), "vmap"), gradients(algorithm, meta_batch(), "loop"))
    assert algorithm.model.mean == 0


def test_the_process_is_left_as_it_was(threads):
    threads(3)
    flags = (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.mem_efficient_sdp_enabled)
    before = [flag() for flag in flags]
    random = torch.get_rng_state()
    for engine in ("auto", "loop", "vmap"):
        gradients(maml(), meta_batch(8), engine)
    assert [flag() for flag in flags] == before and torch.equal(random, torch.get_rng_state())


@pytest.mark.parametrize("engine", ["loop", "vmap"])
def test_an_error_in_a_task_comes_out(threads, engine):
    threads(3)

    def fails(scores, targets):
        if len(scores) == 9:
            raise ArithmeticError("the query set")
        return F.cross_entropy(scores, targets)

    algorithm = maml(criterion=fails)
    with pytest.raises(ArithmeticError, match="the query set"):
        engines.meta_backward(algorithm, meta_batch(queries=3), engine)
    assert torch.get_num_threads() == 3


def test_gradients_add_up():
    algorithm, batch = maml(), meta_batch(2)
    once = gradients(algorithm, batch)[2:]
    engines.meta_backward(algorithm, batch, "loop")
    for parameter, expected in zip(algorithm.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * expected)


class Viewing(nn.Module):
    """Its `view` is written for the usual memory layout."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4 * 144, 3)

    def forward(self, x):
        return self.head(self.body(x).view(len(x), -1))


def test_a_network_that_needs_the_usual_layout_gets_it(threads):
    threads(2)
    algorithm = algorithms.create("maml", model=Viewing().double(), lr=0.1)
    assert_same(gradients(algorithm, meta_batch()), gradients(algorithm, meta_batch(), "reference"))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batch_norm_has_both_derivatives(layout):
    generator = torch.Generator().manual_seed(3)
    layer = nn.BatchNorm2d(3).double()
    x = torch.randn(4, 3, 5, 2, generator=generator, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    weight, bias = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(2))
    weight[1] = 0  # as residual networks begin

    def ours(x, weight, bias):
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        del layer._parameters["weight"], layer._parameters["bias"]
        layer.weight, layer.bias = weight, bias
        return by_its_batch(layer, x)

    inputs = (x, weight.requires_grad_(), bias.requires_grad_())
    torch.testing.assert_close(ours(*inputs), F.batch_norm(x, None, None, weight, bias, True))
    assert ours(*inputs).is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(ours, inputs)
    assert torch.autograd.gradgradcheck(ours, inputs)
    found = torch.func.grad(lambda *given: (ours(*given) ** 3).sum(), argnums=(0, 1, 2))(*inputs)
    assert_same(found, torch.autograd.grad((ours(*inputs) ** 3).sum(), inputs))
