"""The loop engine's workers: the same gradients as one episode after another, and no race."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fewshot_kit import Algorithm, algorithms, engines, models
from fewshot_kit.episodes import Episode, unstack
from fewshot_kit.errors import InputError
from fewshot_kit.seeds import default_draws


def meta_batch(tasks=5, ways=3, shots=2, queries=2):
    generator = torch.Generator().manual_seed(0)
    y = [torch.arange(ways).repeat_interleave(n).repeat(tasks, 1) for n in (shots, queries)]
    x = [torch.rand(tasks, ways * n, 1, 14, 14, generator=generator, dtype=torch.float64) for n in (shots, queries)]
    return Episode(x[0], y[0], x[1], y[1])


def maml(*extra, **options):
    body = models.create("conv4", ways=3, hidden=4, image_size=14, seed=0)
    return algorithms.create("maml", model=nn.Sequential(body, *extra).double(), lr=0.3, **options)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def gradients(algorithm, batch, seed=0):
    algorithm.zero_grad()
    with default_draws(seed, "test"):
        losses, scores = engines.meta_backward(algorithm, batch, "loop")
    return [losses, scores, *(p.grad.clone() for p in algorithm.parameters() if p.grad is not None)]


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_workers_change_nothing(threads, workers, first_order):
    algorithm, batch = maml(first_order=first_order), meta_batch()
    threads(1)
    alone = gradients(algorithm, batch)
    threads(workers)
    together = gradients(algorithm, batch)
    assert torch.get_num_threads() == workers
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-13)


def test_the_order_of_the_tasks_is_kept(threads):
    threads(3)
    algorithm, batch = maml(), meta_batch()
    losses, scores, *_ = gradients(algorithm, batch)
    for task, loss, score in zip(unstack(batch), losses, scores, strict=True):
        expected = algorithm.loss(task)
        torch.testing.assert_close((loss, score), tuple(t.detach() for t in expected))


def test_dropout_is_drawn_in_order(threads):
    """By workers it would depend on which is first; the same seed has to give the same draws, every time."""
    threads(3)
    algorithm, batch = maml(nn.Dropout(0.5)).train(), meta_batch()
    first, again, other = (gradients(algorithm, batch, seed) for seed in (1, 1, 2))
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    threads(1)
    torch.testing.assert_close(gradients(algorithm, batch, 1), first)


class Moving(Algorithm):
    """Runs its model as any module runs, so that every task moves the running statistics."""

    def adapt(self, x, y):
        features = self.model(x)
        return torch.stack([features[y == label].mean(0) for label in range(3)])

    def predict(self, state, x):
        return -torch.cdist(self.model(x), state)


def test_moved_buffers_are_not_lost(threads):
    threads(3)
    algorithm = Moving(models.create("conv4", ways=3, hidden=4, image_size=14, seed=0).double()).train()
    gradients(algorithm, meta_batch())
    counts = [b for n, b in algorithm.named_buffers() if n.endswith("num_batches_tracked")]
    assert all(count == 2 * 5 for count in counts)


def test_the_process_is_left_as_it_was(threads):
    threads(3)
    flags = (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.mem_efficient_sdp_enabled)
    before = [flag() for flag in flags]
    random = torch.get_rng_state()
    gradients(maml(), meta_batch(8))
    assert [flag() for flag in flags] == before and torch.equal(random, torch.get_rng_state())


def test_an_error_in_a_worker_comes_out(threads):
    threads(3)

    def fails_on_the_last(scores, targets):
        if targets.is_floating_point():
            raise ArithmeticError("the last task")
        return F.cross_entropy(scores, targets)

    algorithm = maml()
    tasks = unstack(meta_batch())
    tasks[-1] = tasks[-1]._replace(query_y=tasks[-1].query_y.double())
    algorithm.criterion = fails_on_the_last
    with pytest.raises(ArithmeticError, match="the last task"):
        engines.ENGINES["loop"](algorithm, tasks)
    assert torch.get_num_threads() == 3


def test_gradients_add_up():
    algorithm, batch = maml(), meta_batch(2)
    engines.meta_backward(algorithm, batch)
    once = [p.grad.clone() for p in algorithm.parameters()]
    engines.meta_backward(algorithm, batch)
    for parameter, expected in zip(algorithm.parameters(), once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * expected)


def test_engines_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="'warp'; it is one of auto, loop, reference"):
        engines.choose(maml(), "warp")
    finetune = algorithms.create("finetune", model=nn.Linear(2, 2))
    with pytest.raises(InputError, match="Finetune has no reference"):
        engines.meta_backward(finetune, meta_batch(), "reference")
    with pytest.raises(InputError, match="know no batch_norm='support'"):
        engines.meta_backward(maml(batch_norm="support"), meta_batch(), "reference")
