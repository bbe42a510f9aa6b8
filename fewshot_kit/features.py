"""Computes a frozen network's embeddings of data sets and files once, and keeps them on disk."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import datasets, models
from .algorithms import FeatureHead
from .datasets import Data, Split, Transform
from .datasets.files.cache import cached, fingerprint
from .episodes import relabel
from .errors import InputError
from .modules.batching import VALUES
from .modules.layers import batch_norms
from .modules.modes import kept_modes
from .modules.place import device_of, dtype_of, find_device


def embed_data(model: nn.Module, data: Data[Split], **options: Any) -> Data[Split]:
    """Returns a data set of the network's embeddings in place of the images.

    Every algorithm can train and evaluate on it with a network for vectors: `nn.Identity()` for heads on features,
    `models.create("mlp", inputs=data.train.example_shape[0])` for the others.

    Args:
        model: any network. Its head is not used, and it is not changed.
        data: a data set of images; see `embed_split`.
        options: the options of `embed_split`.

    Raises:
        InputError: as `embed_split`.
    """

    def embedded(split: Split) -> Split:
        return embed_split(model, split, **options)

    validation = None if data.validation is None else embedded(data.validation)
    return Data(data.name, embedded(data.train), validation, embedded(data.test), dict(data.options))


def embed_split(
    model: nn.Module,
    split: Split,
    *,
    head: str | None = None,
    views: int = 1,
    device: torch.device | str | None = None,
    keep: bool = True,
) -> Split:
    """Returns a split of the images' embeddings `[N, D]`, in the same order, with the same classes.

    With `rotations="classes"`, all four rotations of every image are embedded, because each is a class of its own.

    Args:
        model: any network. Its head is not used, and it is not changed.
        split: a split of images.
        head: name of the head; by default the last `nn.Linear`.
        views: views per image to average over: 1, 2 (with the mirrored image) or 10 (with four corners of both).
        device: the device to compute on; by default the model's.
        keep: keep the embeddings in the user's cache folder for later calls, under a hash of weights, transform and
            images.

    Raises:
        InputError: random rotations; batch norm without stored statistics; examples that the model does not take.
    """
    frozen = _frozen(model, head, views, device)
    return embedded_by(frozen, frozen.embed_alone, split, _key(frozen) if keep else None)


def embedded_by(
    module: nn.Module, embed: Callable[[Tensor], Tensor], split: Split, key: dict[str, Any] | None = None
) -> Split:
    """Returns a split of the embeddings that `embed` gives for the images, in the same order, with the same classes.

    Args:
        module: the images get its device and dtype.
        embed: takes `[N, ...]`, returns `[N, D]`; each row depends on its own example alone.
        split: a split of images.
        key: keep the embeddings on disk under this key and a hash of the images.

    Raises:
        InputError: random rotations.
    """
    if split.rotations not in ("none", "classes"):
        raise InputError(
            f"{split.name} draws its rotations anew for every episode (rotations='{split.rotations}'), so its features "
            "cannot be computed once; make it with rotations='none' or 'classes'."
        )
    turns = [0, 1, 2, 3] if split.rotations == "classes" else [0]

    def make() -> tuple[Tensor, list[str]]:
        rows = torch.arange(len(split))
        size, what = split.x[0].numel(), f"embedding {split.name}"
        reads = [functools.partial(_turned, split, turn) for turn in turns]
        return torch.cat([part for read in reads for part in _embed(module, embed, rows, read, size, what)]), []

    fits = _fits(len(turns) * len(split))
    x = make()[0] if key is None else cached("features", key | _key_of(split, len(turns)), make, fits)[0]
    y = torch.cat([split.y + turn * (len(split.classes) // len(turns)) for turn in turns])
    return Split(x, y, split.classes, split.name)


def _turned(split: Split, turn: int, rows: Tensor) -> Tensor:
    return split.gather(rows, torch.full_like(rows, turn))


def embed_files(
    model: nn.Module,
    folder: str | Path,
    *,
    transform: Transform | None = None,
    head: str | None = None,
    views: int = 1,
    device: torch.device | str | None = None,
) -> Split:
    """Returns a split of the embeddings `[N, D]` of the images in a folder of class folders.

    Embeddings are kept on disk under a hash of weights, transform and the files' names, sizes and times of change. A
    second call decodes nothing.

    Args:
        model: as in `embed_split`.
        folder: a folder with one folder for each class.
        transform: turns images into the model's inputs; by default the network's own (`models.images_of`).
        head, views, device: as in `embed_split`.

    Raises:
        InputError: no transform is known; no images; an image that cannot be decoded (named); as `embed_split`.
    """
    how = transform or models.images_of(model)
    if how is None:
        raise InputError(
            f"{type(model).__name__} does not say how it takes images; give transform=datasets.Transform(image_size)."
        )
    labels, paths = datasets.find_images(folder)
    frozen = _frozen(model, head, views, device)

    def make() -> tuple[Tensor, list[str]]:
        def read(part: Tensor) -> Tensor:
            return how.scaled(datasets.load_images([paths[row] for row in part], how))

        size = how.channels * how.image_size**2
        rows = torch.arange(len(paths))
        return torch.cat(_embed(frozen, frozen.embed_alone, rows, read, size, f"embedding {folder}")), []

    base = Path(folder).resolve()
    files = {"root": str(base), "files": fingerprint(paths, Path(folder)), "transform": dataclasses.asdict(how)}
    x, _ = cached("features", _key(frozen) | files, make, _fits(len(paths)))
    y, classes = relabel(labels)
    return Split(x, y, [str(name) for name in classes], f"the folder {base.name}")


@datasets.register("features")
def features(
    dataset: str,
    model: str,
    dataset_options: dict[str, Any] | None = None,
    model_options: dict[str, Any] | None = None,
    views: int = 1,
) -> Data[Split]:
    """A data set's embeddings by a frozen network, both given by name, computed once and kept on disk.

    Images get the size, mean and deviation that a network with weights expects.

    Args:
        dataset: name of the data set.
        model: name of the network.
        dataset_options, model_options: options of the data set and of the network.
        views: as in `embed_split`.

    Raises:
        InputError: as `embed_split`, the data set and the network.
    """
    network = models.create(model, **(model_options or {}))
    data = datasets.create(dataset, **(models.image_options(network) | (dataset_options or {})))
    return embed_data(network, data, views=views)


def _frozen(model: nn.Module, head: str | None, views: int, device: torch.device | str | None) -> FeatureHead:
    bare = [name for name, layer in batch_norms(model).items() if layer.running_mean is None]
    if bare:
        raise InputError(
            f"The batch norm '{bare[0]}' of {type(model).__name__} keeps no running statistics, so that the "
            "features of an image depend on those beside it; make it with track_running_stats=True."
        )
    frozen = FeatureHead(model, head=head, batch_norm="running", views=views)
    place = find_device(device) if device is not None else device_of(frozen)
    return frozen if place == device_of(frozen) else copy.deepcopy(frozen).to(place)


@torch.no_grad()
def _embed(
    module: nn.Module,
    embed: Callable[[Tensor], Tensor],
    rows: Tensor,
    read: Callable[[Tensor], Tensor],
    size: int,
    what: str,
) -> list[Tensor]:
    """Returns embeddings `[N, D]` on the CPU, in parts. `read` turns parts of `rows` into images, of bounded size."""
    from tqdm import tqdm

    found, place, dtype = [], device_of(module), dtype_of(module)
    with (
        kept_modes(module),
        tqdm(desc=what, total=len(rows), leave=False, delay=1, disable=None, unit=" images") as bar,
    ):
        module.eval()
        for part in rows.split(max(1, VALUES // max(1, size))):
            x = read(part).to(place)
            found.append(embed(x.to(dtype) if x.is_floating_point() else x).cpu())
            bar.update(len(part))
    return found


def _fits(rows: int) -> Callable[[Tensor, list[str]], bool]:
    return lambda x, _: x.dim() == 2 and len(x) == rows and x.is_floating_point()


def _key(head: FeatureHead) -> dict[str, Any]:
    """Returns the part of the cache's key that is not about images: layers, weights and views."""
    digest = hashlib.sha256(repr(head.model).encode())
    for name, tensor in head.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return {"weights": digest.hexdigest(), "views": head.views}


def _key_of(split: Split, turns: int) -> dict[str, Any]:
    transform = dataclasses.asdict(split.transform) if split.transform else None
    return {"images": hashlib.sha256(_bytes(split.x[:])).hexdigest(), "transform": transform, "turns": turns}


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
