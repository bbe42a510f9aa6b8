"""Draws which images make up the episodes of a meta-batch, all at once and always on the CPU.

The draws do not use the images, so the same generator state gives the same episodes on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .unbalanced import query_counts

LARGE = 2**14  # more numbers than this are drawn from without a list of all of them
ROTATIONS = ("none", "classes", "per_class", "per_episode")
# One generator for all tasks; or one for each, so that a task is the same as if it were drawn alone.
Generators = torch.Generator | Sequence[torch.Generator]


class Drawn(NamedTuple):
    """T tasks of `ways` classes with `examples` images each."""

    images: Tensor  # int64 [T, ways, examples], indices of images in the split
    turns: Tensor  # int64 [T, ways, examples], quarter turns counter-clockwise, 0 to 3


def distinct(sizes: Tensor, count: int, generator: Generators) -> Tensor:
    """Returns `count` different numbers below each entry of `sizes` `[T, ...]`, in uniformly random order.

    Returns:
        int64 `[T, ..., min(count, largest size)]`. Of a size below `count`, only the first `size` numbers are below it.
    """
    smallest, largest = (int(size) for size in sizes.aminmax())
    if isinstance(generator, Sequence) and smallest < largest:  # a task has keys up to its own largest size
        alone = zip(sizes.split(1), generator, strict=True)
        return torch.cat([distinct(own, count, each) for own, each in alone])
    if largest > LARGE and smallest >= count:
        return _distinct_of_many(sizes, count, generator)
    keys = _by_each(torch.rand, (*sizes.shape, largest), generator)
    if smallest < largest:
        keys.masked_fill_(torch.arange(largest) >= sizes[..., None], -1.0)
    return keys.topk(min(count, largest)).indices


def _by_each(make: Callable[..., Tensor], shape: Sequence[int], generator: Generators) -> Tensor:
    """Returns random numbers of a shape `[T, ...]`; of several generators, each gives those of one task."""
    if isinstance(generator, torch.Generator):
        return make(shape, generator=generator)
    return torch.cat([make((1, *shape[1:]), generator=each) for each in generator])


def _distinct_of_many(sizes: Tensor, count: int, generator: Generators) -> Tensor:
    """As `distinct`, in time and memory that do not grow with the sizes.

    It is Floyd's algorithm (Bentley and Floyd, "A Sample of Brilliance", Communications of the ACM, 1987), whose sets
    are uniform, and a shuffle.
    """
    chosen, uniform = torch.empty(*sizes.shape, count, dtype=torch.int64), partial(torch.rand, dtype=torch.float64)
    for place in range(count):
        last = sizes - count + place
        number = (_by_each(uniform, sizes.shape, generator) * (last + 1)).long()
        taken = (chosen[..., :place] == number[..., None]).any(-1)
        chosen[..., place] = torch.where(taken, last, number)
    order = _by_each(uniform, chosen.shape, generator).argsort(-1)
    return chosen.gather(-1, order)


def draw(
    counts: Tensor, rotations: str, ways: int, examples: int, tasks: int, generator: Generators
) -> tuple[Tensor, Tensor, Tensor]:
    """Draws classes without replacement, then examples of each class without replacement, all uniformly.

    Args:
        counts: number of images of each class `[classes]`.
        rotations: one of `ROTATIONS`. `"classes"` draws from four times as many classes.
        generator: one for all tasks, or one for each.

    Returns:
        The classes `[T, ways]`, positions within the class `[T, ways, examples]`, and quarter turns `[T, ways]`.
    """
    classes = len(counts)
    turns = torch.zeros(tasks, ways, dtype=torch.int64)
    if rotations == "classes":
        drawn = distinct(torch.full((tasks,), 4 * classes), ways, generator)
        drawn, turns = drawn % classes, drawn // classes
    else:
        drawn = distinct(torch.full((tasks,), classes), ways, generator)
    if rotations == "per_class":
        turns = _by_each(partial(torch.randint, 4), (tasks, ways), generator)
    elif rotations == "per_episode":
        turns = _by_each(partial(torch.randint, 4), (tasks, 1), generator).expand(tasks, ways)
    return drawn, distinct(counts[drawn], examples, generator), turns


class Sampler:
    """Draws tasks from labelled images, by their labels alone.

    Args:
        y: class index of every image `[N]`, in any order.
        classes: number of classes.
        rotations: one of `ROTATIONS`.
    """

    def __init__(self, y: Tensor, classes: int, rotations: str = "none") -> None:
        self.rotations = rotations
        self.counts = torch.bincount(y, minlength=classes)
        self.fewest = int(self.counts.min())
        self.order = y.argsort(stable=True)
        self.starts = self.counts.cumsum(0) - self.counts

    def draw(self, ways: int, examples: int, tasks: int, generator: Generators) -> Drawn:
        """Draws `tasks` tasks. The caller must check first that there are enough classes and images."""
        classes, positions, turns = draw(self.counts, self.rotations, ways, examples, tasks, generator)
        images = self.order[self.starts[classes][..., None] + positions]
        return Drawn(images, turns[..., None].expand_as(images))

    def draw_unbalanced(
        self, ways: int, shots: int, queries: int, tasks: int, alpha: float, generator: torch.Generator
    ) -> tuple[Drawn, Drawn, Tensor]:
        """Draws tasks with `ways * queries` queries each, in class proportions from Dirichlet(alpha).

        The classes and support sets are those of `draw` from the same generator state.

        Returns:
            The support set `[T, ways, shots]`, the queries `[T, ways * queries]` in class-major order, and the queries'
            classes `[T, ways * queries]`, from 0 to ways - 1.
        """
        total = ways * queries
        classes, positions, turns = draw(self.counts, self.rotations, ways, shots + total, tasks, generator)
        numbers = query_counts(self.counts[classes] - shots, total, alpha, generator)
        ends, place = numbers.cumsum(-1), torch.arange(total).expand(tasks, -1).contiguous()
        label = torch.searchsorted(ends, place, right=True)
        nth = shots + place - (ends - numbers).gather(1, label)
        starts, chosen = self.starts[classes], positions.flatten(1).gather(1, label * positions.shape[-1] + nth)
        support = self.order[starts[..., None] + positions[..., :shots]]
        query = self.order[starts.gather(1, label) + chosen]
        return Drawn(support, turns[..., None].expand_as(support)), Drawn(query, turns.gather(1, label)), label

    def draw_labelled(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws indices of images and their quarter turns, each `[count]`, uniformly and with replacement."""
        images = torch.randint(len(self.order), (count,), generator=generator)
        if self.rotations == "none":
            return images, torch.zeros_like(images)
        return images, torch.randint(4, (count,), generator=generator)


def fresh_generator() -> torch.Generator:
    """Returns a CPU generator that the operating system seeds, for callers who passed none."""
    generator = torch.Generator()
    generator.seed()
    return generator
