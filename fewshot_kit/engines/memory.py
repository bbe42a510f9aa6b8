"""The memory that is free, and the memory that episodes may need, so that `auto` plans for no more than there is."""

from __future__ import annotations

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ..algorithms import Algorithm
from ..episodes import Episode
from ..modules.place import device_of
from ..seeds import kept_random

SHARE = 0.8  # of the free memory; the rest is for the process's other needs, and for those of other processes
# An episode's need, in bytes that its forward pass saved and bytes of parameters: gradients and weights of its own are
# a few times these. Where the loop had saved 1, vmap had at most 1.1 to 1.9 alive in second order and up to 3 in first
# order, and the resident memory of a CPU grew by up to 1.7 times what was alive (conv4, resnet, MLPs, 1 to 5 steps).
SAVED, PARAMETERS = 4, 4
UNLIMITED = sys.maxsize


def fitting(algorithm: Algorithm, episodes: Episode) -> tuple[int, str]:
    """Returns how many of a meta-batch's episodes fit into the free memory together, and the memory in words.

    `UNLIMITED` stands for a system that does not tell, and for an algorithm that fails.
    """
    free = free_bytes(device_of(algorithm))
    if free is None:
        return UNLIMITED, ""
    need = _need(algorithm, Episode(*(tensor[0].clone() for tensor in episodes)))  # in memory of its own
    said = f"an episode may need {need / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free"
    return int(SHARE * free / need) if need else UNLIMITED, said


def _need(algorithm: Algorithm, episode: Episode) -> int:
    """Returns the bytes that an episode needs at most, by the tensors that its forward pass saves; 0 if it fails."""
    counted = _Saved()
    try:
        with kept_random(device_of(algorithm)), counted:
            copy.deepcopy(algorithm).loss(episode)  # of a copy, whose buffers may be moved
    except Exception:  # the engines will meet the same error, and explain it
        return 0
    return SAVED * counted.most + PARAMETERS * sum(parameter.nbytes for parameter in algorithm.parameters())


class _Saved(saved_tensors_hooks):
    """A context that counts the bytes that autograd has saved. `most` is the most at a time."""

    def __init__(self) -> None:
        super().__init__(lambda tensor: _Held(tensor, self), lambda held: held.tensor)
        self.most, self.alive = 0, 0
        self.holders: Counter[int] = Counter()  # of each storage, by its address

    def move(self, storage: torch.UntypedStorage, by: int) -> None:
        """Counts one holder of a storage more or less."""
        address = storage.data_ptr()
        self.holders[address] += by
        if self.holders[address] == max(by, 0):  # the first holder, or none any more
            self.alive += by * storage.nbytes()
            self.most = max(self.most, self.alive)


class _Held:
    """A saved tensor, for as long as the graph needs it."""

    def __init__(self, tensor: Tensor, counted: _Saved) -> None:
        self.tensor, self.counted = tensor.detach(), counted
        counted.move(tensor.untyped_storage(), 1)

    def __del__(self) -> None:
        self.counted.move(self.tensor.untyped_storage(), -1)


def free_bytes(device: torch.device, root: Path = Path("/")) -> int | None:
    """Returns the bytes that this process may still take on a device; None if the system does not tell.

    On Linux's CPUs this is the least of what the machine has available, of what is left to the control groups that the
    process is in (containers, batch systems), and of what is left of its address space (`ulimit -v`).

    Args:
        root: the folder of `proc` and `sys`.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if device.type != "cpu":
        return None
    found: list[int] = []
    for left in (_of_machine, _of_groups, _of_addresses):
        with contextlib.suppress(OSError, ValueError, KeyError, ImportError):  # other systems, other kernels
            found += left(root)
    return max(0, min(found)) if found else None


def _of_machine(root: Path) -> list[int]:
    return [1024 * _table(root / "proc/meminfo")["MemAvailable"]]


def _of_groups(root: Path) -> Iterator[int]:
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, kinds, path = line.split(":", 2)
        if not kinds:  # version 2
            top, files, cache = root / "sys/fs/cgroup", ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in kinds.split(","):
            top, files = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cache = "total_inactive_file"
        else:
            continue
        group = top / path.lstrip("/")
        for each in (group, *group.parents[: len(group.parts) - len(top.parts)]):
            # A container may see its own group as the top one. A group without a limit has the word "max".
            with contextlib.suppress(OSError, ValueError):
                limit, used = (int((each / file).read_text()) for file in files)
                yield limit - used + _table(each / "memory.stat").get(cache, 0)  # cached files make room


def _of_addresses(root: Path) -> list[int]:
    import resource  # not on every system

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    used = resource.getpagesize() * int((root / "proc/self/statm").read_text().split()[0])
    return [] if limit == resource.RLIM_INFINITY else [limit - used]


def _table(path: Path) -> dict[str, int]:
    """Returns the numbers of a file of lines `name: number unit` or `name number`."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {line[0].rstrip(":"): int(line[1]) for line in lines if len(line) > 1}
