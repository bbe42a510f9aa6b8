"""The in-memory store of one split, from which tasks are drawn in two ways: as episodes, or for learn2learn."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...episodes import Episode, relabel
from ...errors import InputError
from ...ranges import check_counts, check_rate
from ..files.images import Transform
from .arrays import as_examples, as_labels, check_arrays
from .class_splits import with_turns
from .sampler import ROTATIONS, Drawn, Generators, Sampler, fresh_generator
from .store import Store
from .tasks import task_dataset

PLAIN = Transform(image_size=1)  # scales uint8 images that did not come from files


class Split(Dataset[tuple[Tensor, int]]):
    """Labelled examples in one tensor. It is also a torch `Dataset` of the stored `(x, y)`, not rotated.

    Args:
        x: uint8 images `[N, C, H, W]`, which models see as floats in [0, 1] or as `transform` normalises them. Any
            other tensor `[N, ...]` is used as it is. Of a memory-mapped tensor (`torch.from_file`) only what episodes
            ask for is read, and of a `Store` only that is made.
        y: class index of every example, int64 `[N]`.
        classes: names of the classes, by class index.
        name: the split's name in messages.
        rotations: quarter turns of the images. `"none"`: no turns. `"classes"`: every turn of a class is a class of its
            own, without a copy of any image. `"per_class"`: one random turn for every class of an episode.
            `"per_episode"`: one random turn for a whole episode.
        transform: the transform that made `x` of image files, if `x` came from files.

    Raises:
        InputError: the lengths differ; labels lie outside the classes; values are NaN or infinite; rotations are asked
            for, and the examples are not square images.
    """

    remedy = "lower ways"  # the advice in the message when there are more ways than classes

    def __init__(
        self,
        x: Tensor | Store,
        y: Tensor,
        classes: Sequence[str],
        name: str = "data",
        rotations: str = "none",
        transform: Transform | None = None,
    ) -> None:
        check_arrays(x, y, len(classes), name)
        if rotations not in ROTATIONS:
            raise InputError(f"Unknown rotations '{rotations}'; they are one of {', '.join(ROTATIONS)}.")
        if rotations != "none" and (x.dim() != 4 or x.shape[-1] != x.shape[-2]):
            raise InputError(f"Only square images can be rotated; those of {name} have shape {list(x.shape[1:])}.")
        y = y.cpu()
        self.x, self.y, self.name, self.rotations, self.transform = x, y, name, rotations, transform
        self.classes = with_turns(classes) if rotations == "classes" else list(classes)
        self._sampler = Sampler(y, len(classes), rotations)
        self._stored_classes = list(classes)
        self._on_device: dict[torch.device, Tensor | Store] = {x.device: x}

    @classmethod
    def from_arrays(cls, x: Any, y: Sequence[Hashable] | Tensor, name: str = "data", **options: Any) -> Split:
        """A split of arrays or tensors `[N, ...]` and one label (int or string) for each; `[N, 1]` is taken as `[N]`.

        Raises:
            InputError: examples of several shapes; labels that are missing or no list; as the constructor does.
        """
        x, labels = as_examples(x, name), as_labels(y, name)
        if len(x) != len(labels):
            raise InputError(f"{name} has {len(x)} examples but {len(labels)} labels; give one label for each.")
        index, classes = relabel(labels)
        return cls(x, index, [str(label) for label in classes], name, **options)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._as_seen(self.x[index]), int(self.y[index])

    def __repr__(self) -> str:
        return f"Split({self.name}: {len(self)} examples {list(self.example_shape)}, {len(self.classes)} classes)"

    @property
    def example_shape(self) -> torch.Size:
        """The shape of one example, as a model sees it."""
        return self.x.shape[1:]

    @property
    def channels(self) -> int | None:
        """The number of channels of the images; None for other examples."""
        return self.x.shape[1] if self.x.dim() == 4 else None

    @property
    def image_size(self) -> int | None:
        """The number of pixels along the images' longer side; None for other examples."""
        return max(self.x.shape[2:]) if self.x.dim() == 4 else None

    def check(self, ways: int, shots: int, queries: int, dirichlet: float | None = None) -> None:
        """Raises `InputError` if such episodes cannot be drawn: too few classes, or too few images in a class (named).

        Unbalanced queries (`dirichlet`) need twice as many query images per class. With fewer, the small classes would
        make the queries nearly balanced.
        """
        check_counts(ways=ways, shots=shots, queries=queries)
        if ways == 1:
            raise InputError("1 way leaves nothing to tell apart; take ways=2 or more.")
        if ways > len(self.classes):
            raise InputError(
                f"{ways} ways are more than the {len(self.classes)} classes of {self.name}; {self.remedy}."
            )
        if dirichlet is not None:
            check_rate(dirichlet=dirichlet)
        need, word = (shots + queries, "") if dirichlet is None else (shots + 2 * queries, "twice ")
        if self._sampler.fewest >= need:
            return
        counts = self._sampler.counts
        few = (counts < need).nonzero().flatten().tolist()
        others = f" (and {len(few) - 1} more of its classes have too few)" if len(few) > 1 else ""
        raise InputError(
            f"Class '{self._stored_classes[few[0]]}' of {self.name} has {int(counts[few[0]])} examples, "
            f"too few for {shots} shots + {word}{queries} {'unbalanced ' if word else ''}queries = {need}{others}; "
            "lower shots or queries, or add examples."
        )

    def episodes(
        self,
        ways: int,
        shots: int,
        queries: int,
        meta_batch: int,
        generator: Generators | None = None,
        device: torch.device | str | None = None,
        dirichlet: float | None = None,
        part: slice | None = None,
    ) -> Episode:
        """Draws a meta-batch: classes and examples without replacement, uniformly, in class-major order.

        Args:
            ways, shots, queries: classes per episode; support and query examples per class.
            meta_batch: T, the number of episodes.
            generator: a CPU generator, whose state alone decides what is drawn. None draws anew every time. A sequence
                has one generator per episode, which is then the same as if it were drawn alone.
            device: where the episodes are gathered; by default where the split's tensor is.
            dirichlet: draw the class proportions of an episode's `ways * queries` queries from Dirichlet(dirichlet), in
                place of `queries` per class (Veilleux et al., NeurIPS 2021, with 2). If a class has too few examples,
                the other classes get its remaining queries, in proportion. Classes and support sets are those of the
                balanced draw.
            part: gather these of the T episodes alone; what is drawn stays the same.

        Returns:
            `support_x [T, ways * shots, ...]`, `support_y [T, ways * shots]` (0 to ways - 1), the query likewise.

        Raises:
            InputError: as in `check`; `meta_batch` is below 1; `dirichlet` is not a positive number.
        """
        self.check(ways, shots, queries, dirichlet)
        check_counts(meta_batch=meta_batch)
        support, query, label = self._drawn(ways, shots, queries, meta_batch, generator, dirichlet)
        if part is not None:
            support, query = (Drawn(*(each[part] for each in drawn)) for drawn in (support, query))
            label, meta_batch = None if label is None else label[part], len(support.images)
        parts = [support.images, query.images]
        x = self.gather(_flat(parts), _flat([support.turns, query.turns]), device)
        support_x, query_x = x.split([part.numel() for part in parts])
        return Episode(
            support_x.view(meta_batch, ways * shots, *self.example_shape),
            _balanced(ways, shots, meta_batch, x.device),
            query_x.view(meta_batch, ways * queries, *self.example_shape),
            _balanced(ways, queries, meta_batch, x.device) if label is None else _sent(label, x.device),
        )

    def _drawn(
        self,
        ways: int,
        shots: int,
        queries: int,
        tasks: int,
        generator: Generators | None,
        dirichlet: float | None,
    ) -> tuple[Drawn, Drawn, Tensor | None]:
        """Draws support and query images, and the queries' classes if these are unbalanced (None otherwise)."""
        if dirichlet is None:
            drawn = self.draw(ways, shots + queries, tasks, generator)
            return Drawn(*(each[..., :shots] for each in drawn)), Drawn(*(each[..., shots:] for each in drawn)), None
        if not isinstance(generator, Sequence):
            return self._sampler.draw_unbalanced(ways, shots, queries, tasks, dirichlet, _on_cpu(generator))
        alone = [self._sampler.draw_unbalanced(ways, shots, queries, 1, dirichlet, _on_cpu(one)) for one in generator]
        support, query, label = zip(*alone, strict=True)
        return _joined(support), _joined(query), torch.cat(label)

    def tasks(
        self, ways: int, shots: int, queries: int, num_tasks: int = -1, generator: torch.Generator | None = None
    ) -> Any:
        """Returns the tasks as a `learn2learn.data.TaskDataset`, drawn by the same sampler.

        A task is `(x [ways * (shots + queries), ...], y)` in class-major order. `episodes.split(x, y, shots)` makes an
        episode of it. With `num_tasks=-1` every access draws a new task; otherwise task i stays the same.

        Raises:
            InputError: as in `check`; `num_tasks` is 0 or below -1.
        """
        self.check(ways, shots, queries)
        generator, examples = generator or fresh_generator(), shots + queries
        label = torch.arange(ways).repeat_interleave(examples)
        draw = partial(self.draw, ways, examples, 1, generator)
        return task_dataset(self, self.y.tolist(), draw, self.gather, label, num_tasks)

    def draw(self, ways: int, examples: int, tasks: int, generator: Generators | None) -> Drawn:
        """Draws the images of `tasks` tasks with `examples` images per class. The caller must run `check` first."""
        given = [_on_cpu(one) for one in generator] if isinstance(generator, Sequence) else _on_cpu(generator)
        return self._sampler.draw(ways, examples, tasks, given)

    def labelled(
        self,
        count: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        part: slice | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draws examples of all classes, uniformly with replacement. They are rotated if episodes are.

        Args:
            count: n, the number of examples.
            generator: a CPU generator, whose state alone decides what is drawn. None draws anew every time.
            device: where the examples are gathered; by default where the split's tensor is.
            part: gather these of the n examples alone; what is drawn stays the same.

        Returns:
            `x [n, ...]` and `y [n]`, which holds indices into `classes`.
        """
        check_counts(count=count)
        images, turns = (each[part or slice(None)] for each in self._sampler.draw_labelled(count, _on_cpu(generator)))
        x = self.gather(images, turns, device)
        y = self.y[images]
        if self.rotations == "classes":
            y = y + turns * len(self._stored_classes)
        return x, _sent(y, x.device)

    def gather(self, images: Tensor, turns: Tensor, device: torch.device | str | None = None) -> Tensor:
        """Returns the images with these indices `[n]`, rotated by their quarter turns `[n]`, as floats on the device.

        The indices go to a GPU in one pinned copy, so that the CPU does not wait for the GPU.
        """
        store = self.x if device is None else self._store_on(torch.device(device))
        device = torch.device(store.device if device is None else device)
        if self.rotations == "none":
            return self._as_seen(store.index_select(0, _sent(images, store.device)).to(device))
        # Images are gathered turn by turn, then put back in order. Selecting rows is far faster than writing to them.
        order = turns.argsort(stable=True)
        by_turn, back = _sent(torch.stack([images[order], order.argsort()]), store.device)
        upright, *others = store.index_select(0, by_turn).split(turns.bincount(minlength=4).tolist())
        x = torch.cat([upright, *(part.rot90(quarter, (-2, -1)) for quarter, part in enumerate(others, 1))])
        return self._as_seen(x.index_select(0, back).to(device))

    def _as_seen(self, x: Tensor) -> Tensor:
        return (self.transform or PLAIN).scaled(x) if x.dtype == torch.uint8 else x

    def _store_on(self, device: torch.device) -> Tensor | Store:
        device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", so that there is one copy
        if device not in self._on_device:
            self._on_device[device] = self.x.to(device)
        return self._on_device[device]


def _on_cpu(generator: torch.Generator | None) -> torch.Generator:
    """The generator, or a fresh one; `InputError` for what is none, or is on another device."""
    generator = fresh_generator() if generator is None else generator
    if not isinstance(generator, torch.Generator):
        raise InputError(f"The generator is {generator!r}; give torch.Generator().manual_seed(0), say.")
    if generator.device.type != "cpu":
        raise InputError(f"Episodes are drawn by a CPU generator, not one on {generator.device}.")
    return generator


def _balanced(ways: int, each: int, tasks: int, device: torch.device) -> Tensor:
    """Returns the class indices 0, 0, ... 1, 1, ... `[T, ways * each]`."""
    return torch.arange(ways, device=device)[:, None].expand(-1, each).flatten().expand(tasks, -1).contiguous()


def _joined(draws: Sequence[Drawn]) -> Drawn:
    return Drawn(*map(torch.cat, zip(*draws, strict=True)))


def _flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _sent(index: Tensor, device: torch.device) -> Tensor:
    """Returns a small CPU tensor on the device, without waiting for the device."""
    return index.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else index.to(device)
