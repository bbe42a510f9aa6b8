"""What is free, what an episode may need, and that `auto` tries and takes nothing beyond."""

import re

import pytest
import torch
from engine_world import assert_same, build, gradients, maml, meta_batch

from fewshot_kit import algorithms, engines
from fewshot_kit.engines import memory, timing
from fewshot_kit.episodes import unstack

CPU = torch.device("cpu")


def system(root, groups="", **files):
    """A machine with 8,000 kB available, and files of control groups; `_` in a name is a slash."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text("MemTotal: 16000 kB\nMemAvailable: 8000 kB\nHugePages_Total: 0\n")
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/statm").write_text("100 50 20 1 0 30 0\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return memory.free_bytes(CPU, root)


def test_what_is_available_of_the_machine(tmp_path):
    assert system(tmp_path) == 8000 * 1024


def test_what_is_left_to_a_group_and_those_above_it(tmp_path):
    """Version 2: the group itself has no limit, the one above it has; cached files make room."""
    files = {
        "job/step/memory.max": "max\n",
        "job/step/memory.current": "1000\n",
        "job/memory.max": "6000000\n",
        "job/memory.current": "5000000\n",
        "job/memory.stat": "anon 3000000\ninactive_file 1500000\n",
    }
    assert system(tmp_path, "0::/job/step\n", **files) == 1000000 + 1500000


def test_what_is_left_to_a_container(tmp_path):
    """Version 1, whose own group is at the top."""
    files = {
        "memory/memory.limit_in_bytes": "7000000\n",
        "memory/memory.usage_in_bytes": "7100000\n",
        "memory/memory.stat": "cache 1\ntotal_inactive_file 500000\n",
    }
    groups = "9:cpu,cpuacct:/\n4:memory:/docker/7f\n0::/\n"
    assert system(tmp_path, groups, **files) == 400000


def test_what_is_left_of_the_address_space(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (5_000_000, -1))
    assert system(tmp_path) == 5_000_000 - 100 * resource.getpagesize()


def test_other_systems_do_not_tell(tmp_path):
    assert memory.free_bytes(CPU, tmp_path / "nothing") is None
    assert memory.free_bytes(torch.device("meta")) is None


def test_of_this_machine():
    if (free := memory.free_bytes(CPU)) is not None:
        assert 0 < free < 2**50


def test_what_is_saved_is_counted_once_and_while_it_is_kept():
    x, counted = torch.rand(1000, requires_grad=True), memory._Saved()
    with counted:
        kept = x.sin()  # saves x
        both = kept * x  # saves both, 8 kB in all
        assert counted.most == counted.alive == 8000
        both.sum().backward()
        assert counted.alive == 0
        (x.exp() + 1).sum()  # saves its result, and drops it
    assert (counted.most, counted.alive) == (8000, 0)


def test_the_need_grows_with_the_steps_in_second_order_alone():
    episode = unstack(meta_batch(1))[0]
    own = sum(p.nbytes for p in maml().parameters())
    need = {
        (first, steps): memory._need(maml(first_order=first, steps=steps), episode) - memory.PARAMETERS * own
        for first in (False, True)
        for steps in (1, 5)
    }
    assert need[False, 5] > 3 * need[False, 1] and need[True, 5] == need[True, 1] < need[False, 1]


def test_measuring_leaves_the_algorithm_alone():
    algorithm = maml(batch_norm="running").train()
    before = {name: tensor.clone() for name, tensor in algorithm.state_dict().items()}
    state = torch.get_rng_state()
    assert memory.fitting(algorithm, meta_batch())[0] > 5
    assert all(torch.equal(before[name], tensor) for name, tensor in algorithm.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and all(p.grad is None for p in algorithm.parameters())


def with_room_for(monkeypatch, algorithm, episodes):
    need = memory._need(algorithm, unstack(meta_batch(1))[0])
    monkeypatch.setattr(memory, "free_bytes", lambda device: int((episodes + 0.5) * need / memory.SHARE))


@pytest.fixture
def tried(monkeypatch):
    """Episodes at a time of every run that was timed; `vmap` always wins."""
    seen = []

    def seconds(choice, probe, episodes):
        tasks = len(episodes.support_x)
        at_a_time = min(choice.chunk or tasks, tasks) * (choice.workers or 1)
        seen.append(choice.workers if choice.engine == "loop" else at_a_time)
        return {"loop": 9.0, "factored": 8.0, "vmap": 1.0 / at_a_time}[choice.engine]

    monkeypatch.setattr(timing, "seconds_of", seconds)
    return seen


@pytest.mark.parametrize("room, chunk", [(100, None), (9, None), (4, 4), (3, 3), (2, 2)])
def test_a_chunk_that_fits_is_tried_and_taken(monkeypatch, tried, room, chunk):
    algorithm = algorithms.create("maml", model=build("mlp", torch.float64))
    with_room_for(monkeypatch, algorithm, room)
    choice = engines.choose(algorithm, meta_batch(9))
    assert (choice.engine, choice.chunk) == ("vmap", chunk) and max(tried) <= room
    told = r"; an episode may need \d\.\d MB, and \d\.\d MB are free"
    assert re.fullmatch(
        r"measured on 9 episodes: loop on 1 worker .* ms, factored.* ms, vmap.* ms" + told * bool(chunk), choice.why
    )
    assert_same(gradients(algorithm, meta_batch(9), choice), gradients(algorithm, meta_batch(9), "loop"))


def test_where_not_even_two_fit_the_loop_is_taken(monkeypatch, tried):
    algorithm = algorithms.create("maml", model=build("mlp", torch.float64))
    with_room_for(monkeypatch, algorithm, 1)
    choice = engines.choose(algorithm, meta_batch())
    assert choice.engine == "loop" and not tried
    assert re.fullmatch(
        r"no more than one episode was tried at a time for want of memory: an episode may need .* free", choice.why
    )


@pytest.mark.parametrize(
    "room, most, name",
    [(20, 16, "vmap in chunks of 16"), (6, 6, "vmap in chunks of 6"), (3, 3, "vmap in chunks of 3")],
)
def test_chunks_of_convolutional_nets_are_doubled_within_the_memory(monkeypatch, threads, tried, room, most, name):
    threads(2)
    with_room_for(monkeypatch, maml(), room)
    choice = engines.choose(maml(), meta_batch(24))  # of which 16 are tried
    assert max(tried) == most and choice.name == name
    assert ("MB are free" in choice.why) == (room < 16)


def test_workers_of_the_loop_stay_within_the_memory(monkeypatch, threads):
    threads(4)
    monkeypatch.setattr(timing, "LARGEST", 1)
    for room, workers in ((100, 4), (3, 3), (0, 1)):
        with_room_for(monkeypatch, maml(), room)
        assert engines.choose(maml(), meta_batch()).name == f"loop on {workers} worker{'s' if workers > 1 else ''}"


def test_a_chunk_that_was_asked_for_is_cut_too(monkeypatch, tried):
    algorithm = algorithms.create("maml", model=build("mlp", torch.float64))
    with_room_for(monkeypatch, algorithm, 3)
    assert [engines.choose(algorithm, meta_batch(), chunk=chunk).chunk for chunk in (2, 5)] == [2, 3]
    assert engines.choose(algorithm, meta_batch(), "vmap", chunk=5).chunk == 5  # an engine by name is as asked for


def test_an_algorithm_that_fails_is_left_to_the_engines(monkeypatch):
    def broken(self, episode):
        raise KeyError("mine")

    algorithm = type("Mine", (algorithms.MAML,), {"loss": broken})(build("mlp", torch.float64))
    with_room_for(monkeypatch, maml(), 1)
    with pytest.raises(KeyError, match="mine"):
        engines.choose(algorithm, meta_batch())
