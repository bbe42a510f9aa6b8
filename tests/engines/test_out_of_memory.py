"""A meta-batch that runs out of memory goes on with fewer episodes at a time, to the same result."""

import subprocess
import sys
import warnings

import pytest
import torch
from engine_world import assert_same, build, gradients, maml, meta_batch
from torch import nn

from fewshot_kit import algorithms, engines
from fewshot_kit.errors import InputError, SmallerChunkWarning

NAMED = {
    "a GPU's": lambda: torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB."),
    "a CPU's": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes."),
    "Python's": lambda: MemoryError(),
}


class Small(nn.Module):
    """A network in a memory of `room` images at a time."""

    def __init__(self, room, error=NAMED["a CPU's"], drop=0.0):
        super().__init__()
        self.body, self.room, self.error, self.runs = build("mlp", torch.float64), room, error, []
        self.drop = nn.Dropout(drop)

    def forward(self, x):
        tensor = x
        while torch._C._functorch.is_batchedtensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        self.runs.append(tensor.numel() // 196)
        if self.runs[-1] > self.room:
            raise self.error()
        return self.body(self.drop(x))


def small(room, **options):
    return algorithms.create("maml", model=Small(room, **options), lr=0.1)


@pytest.mark.parametrize("error", NAMED.values(), ids=NAMED)
def test_it_halves_the_chunk_says_so_once_and_stays_with_it(error):
    """Five tasks of six images: all 30 at once are too many, 18 too, 12 are not."""
    expected = gradients(small(10**6), meta_batch(), "vmap")
    algorithm, choice = small(12, error=error), engines.Choice("vmap")
    with pytest.warns(SmallerChunkWarning) as said:
        found = gradients(algorithm, meta_batch(), choice)
    assert_same(found, expected)
    assert [str(each.message) for each in said] == [
        f"The engine '{before}' ran out of memory on 5 episodes, and goes on as 'vmap in chunks of {size}'; "
        f"chunk={size} begins with that."
        for before, size in (("vmap", 3), ("vmap in chunks of 3", 2))
    ]
    assert choice == engines.Choice("vmap")  # what a run records is what was asked for
    algorithm.model.runs.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(gradients(algorithm, meta_batch(), choice), expected)
    assert max(algorithm.model.runs) == 12


def test_down_to_one_episode_then_a_sentence():
    with (
        pytest.warns(SmallerChunkWarning),
        pytest.raises(
            InputError, match=r"'vmap' cannot run this: .* take engine='loop', checkpoint=True, fewer queries, or"
        ),
    ):
        engines.meta_backward(small(5), meta_batch(), "vmap")
    with pytest.raises(InputError, match=r"'loop' cannot run this: .* \(MemoryError\); take checkpoint=True, fewer"):
        engines.meta_backward(small(5, error=MemoryError), meta_batch(), "loop")
    protonet = algorithms.create("protonet", model=Small(5))
    with pytest.raises(InputError, match=r"'loop' cannot run this: .*; take fewer queries, or a smaller model"):
        engines.meta_backward(protonet, meta_batch(), "loop")


def test_predictions_too():
    algorithm, choice = small(12), engines.Choice("vmap")
    with pytest.warns(SmallerChunkWarning):
        scores = choice.predict(algorithm, meta_batch())
    assert_same([scores], [choice.predict(small(10**6), meta_batch())])


def test_workers_are_halved(monkeypatch, threads):
    threads(4)
    run, asked = engines.choice.loop.run, []

    def crowded(algorithm, episodes, workers, copies):
        asked.append(workers)
        if workers > 1:
            raise MemoryError
        return run(algorithm, episodes, workers, copies)

    expected = gradients(maml(), meta_batch())
    monkeypatch.setattr(engines.choice.loop, "run", crowded)
    with pytest.warns(SmallerChunkWarning) as said:
        assert_same(gradients(maml(), meta_batch(), "loop", workers=4), expected)
    assert asked == [4, 2, 1]
    assert "'loop on 4 workers' ran out" in str(said[0].message) and "workers=1 begins" in str(said[1].message)


def test_chunks_on_workers_are_halved_before_the_workers():
    algorithm, choice, seen = maml(), engines.Choice("vmap", chunk=4, workers=2), []
    while choice is not None:
        seen.append((choice.chunk, choice.workers))
        choice = choice.halved(algorithm, 6)
    assert seen == [(4, 2), (2, 2), (1, 2), (1, 1)]
    assert engines.Choice("reference").halved(algorithm, 6) is None


def test_nothing_is_drawn_twice():
    """The loop draws dropout in the order of the episodes, so the second attempt has to begin where the first did."""
    failures = []

    class Failing(algorithms.MAML):
        def loss(self, episode):
            found = super().loss(episode)
            if failures:
                raise failures.pop()
            return found

    algorithm = Failing(Small(10**6, drop=0.5), lr=0.1)
    expected = gradients(algorithm, meta_batch(), workers=1)
    failures.append(MemoryError())
    with pytest.warns(SmallerChunkWarning, match="as 'loop on 1 worker'"):
        found = gradients(algorithm, meta_batch(), workers=2)
    assert not failures
    assert_same(found, expected, rtol=0, atol=0)


def test_auto_leaves_what_fails_to_the_loop(monkeypatch, threads):
    threads(1)

    def limited(enough):
        def run(algorithm, episodes, *_):
            if len(episodes.support_x) > 2:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB.")
            return enough(algorithm, episodes)

        return run

    for engine in (engines.choice.vmap, engines.choice.factored):
        monkeypatch.setattr(engine, "run", limited(engine.run))
    choice = engines.choose(algorithms.create("maml", model=build("mlp", torch.float64)), meta_batch())
    assert choice.engine == "loop"
    why = "it needs more memory than there is (CUDA out of memory. Tried to allocate 3 GiB)"
    assert choice.why.endswith(f" ms, factored failed ({why}), vmap failed ({why})")


LIMITED = """
import resource, torch, warnings
from fewshot_kit import algorithms, engines
from fewshot_kit.episodes import Episode
torch.set_num_threads(1)
x, y = torch.rand(64, 6, 2000, dtype=torch.float64), torch.arange(3).repeat(64, 2)
def gradients(chunk):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2000, 500), torch.nn.Tanh(), torch.nn.Linear(500, 3)).double()
    algorithm = algorithms.create("maml", model=model)
    engines.meta_backward(algorithm, Episode(x, y, x, y), "vmap", chunk)
    return [p.grad for p in algorithm.parameters()]
expected = gradients(1)  # and all libraries are loaded
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 400_000_000, resource.RLIM_INFINITY))  # a task's weights are 8 MB
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = gradients(None)
print(len(said), said[-1].message)
assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(found, expected))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_address_space_that_is_really_full():
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "ran out of memory on 64 episodes, and goes on as 'vmap in chunks of" in done.stdout
