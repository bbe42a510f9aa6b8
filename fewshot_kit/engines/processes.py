"""Several processes that share a meta-batch: each runs a slice of its episodes, and the sums are the same everywhere.

The collectives are those of `torch.distributed`. DistributedDataParallel is not used, because autograd does not know
its all-reduce, so second-order gradients through it are wrong or fail (pytorch#63929, #47562).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from ..algorithms import Algorithm
from ..errors import InputError, KitError, first_line
from .results import Result, movable, trainable


class LostError(KitError):
    """Another process of the group has ended."""


@dataclass(frozen=True)
class Processes:
    """The process group that a run is shared by. One process alone is the usual case, and sends nothing."""

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Processes:
        """Returns the process group that `torch.distributed` was initialised with, or one process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files, shows bars and prints messages."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Returns this process's slice of `count` episodes. Slices differ by at most one episode."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def agreed(self, make: Callable[[], Any]) -> Any:
        """Returns on every process what `make()` gives on the first, where alone it is called.

        Raises:
            InputError: on every process, if `make()` raised it.
        """
        if self.size == 1:
            return make()
        told: list[Any] = [None, None]
        if self.leads:
            try:
                told[0] = make()
            except InputError as error:
                told[1] = str(error)
        with _lost(self):
            dist.broadcast_object_list(told, src=0)
        if told[1] is not None:
            raise InputError(told[1])
        return told[0]

    def filled(self, table: Tensor) -> Tensor:
        """Sums all processes' tables, in place. Each process has filled places of its own, and left the others 0."""
        if self.size > 1:
            with _lost(self):
                dist.all_reduce(table)
        return table

    def summed(self, algorithm: Algorithm, result: Result | None) -> Result:
        """Returns a result whose gradients and buffer moves are summed over all processes, by one all-reduce.

        Args:
            algorithm: the algorithm of the result.
            result: the result of this process's slice, or None if the slice is empty. Its losses and scores stay.
        """
        if self.size == 1 and result is not None:
            return result
        return _result(algorithm, self.filled(_flat(algorithm, result)), result)

    def summed_in_order(self, algorithm: Algorithm, results: Sequence[Result], count: int) -> Result:
        """As `summed`, but adds the results of all `count` episodes one after the other, in the order of the episodes.

        The sum is then the same to the last bit for any number of processes. It sends a gradient per episode.

        Args:
            algorithm: the algorithm of the results.
            results: a result for each episode of this process's slice.
            count: number of episodes of the meta-batch.
        """
        own = self.part(count)
        mine = dict(zip(range(own.start, own.stop), results, strict=True))
        total = torch.zeros_like(_flat(algorithm, None))
        for index in range(count):
            flat = _flat(algorithm, mine.get(index))
            if self.size > 1:
                with _lost(self):
                    dist.broadcast(flat, src=self.owner(index, count))
            total += flat
        kept = None
        if results:
            losses, scores = (torch.cat(each) for each in list(zip(*results, strict=True))[:2])
            kept = results[0]._replace(losses=losses, scores=scores)
        return _result(algorithm, total, kept)

    def owner(self, index: int, count: int) -> int:
        """Returns the process whose slice of `count` episodes holds this episode."""
        return next(r for r in range(self.size) if index < count * (r + 1) // self.size)


@contextlib.contextmanager
def _lost(processes: Processes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostError(
            f"Process {processes.rank} of {processes.size} lost the others ({first_line(error)}); "
            "go on with the run by --resume."
        ) from error


def _flat(algorithm: Algorithm, result: Result | None) -> Tensor:
    """Returns gradients, which of them there are, and buffer moves, as one vector; zeros without a result."""
    parameters, buffers = trainable(algorithm), movable(algorithm)
    gradients = result.gradients if result else [None] * len(parameters)
    moves = result.moves if result else {}
    pieces = [_or_zeros(gradient, parameter) for gradient, parameter in zip(gradients, parameters, strict=True)]
    pieces += [_or_zeros(moves.get(name), buffer) for name, buffer in buffers.items()]
    there = [float(gradient is not None) for gradient in gradients]
    place = next(iter([*parameters, *buffers.values()])).device
    dtypes = [piece.dtype for piece in pieces if piece.is_floating_point()]
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    return torch.cat([piece.reshape(-1).to(wide) for piece in pieces] + [torch.tensor(there, dtype=wide, device=place)])


def _or_zeros(tensor: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if tensor is None else tensor


def _present(there: Tensor, own: Result | None) -> list[bool]:
    """Returns which parameters have a gradient. Episodes are alike in this; only a process without one has to ask."""
    return [gradient is not None for gradient in own.gradients] if own else there.bool().tolist()


def _result(algorithm: Algorithm, flat: Tensor, own: Result | None) -> Result:
    """Returns the result that `_flat` made a vector of, with this process's own losses and scores."""
    parameters, buffers = trainable(algorithm), movable(algorithm)
    likes = [*parameters, *buffers.values()]
    *pieces, there = flat.split([like.numel() for like in likes] + [len(parameters)])
    found = [piece.view_as(like).to(like.dtype) for piece, like in zip(pieces, likes, strict=True)]
    gradients = [
        gradient if present else None
        for gradient, present in zip(found[: len(parameters)], _present(there, own), strict=True)
    ]
    moves = dict(zip(buffers, found[len(parameters) :], strict=True))
    empty = flat.new_zeros(0)
    return Result(own.losses if own else empty, own.scores if own else empty, gradients, moves)
