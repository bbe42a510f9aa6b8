"""A frozen network's embeddings of a data set or of files, computed once and kept on disk."""

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
    """A data set of images -> the same data set of the network's embeddings, which every algorithm takes.

    Train and evaluate on it with a network for vectors: `nn.Identity()` for heads on features, `models.create("mlp",
    inputs=data.train.example_shape[0])` for the others.

    Args:
        model: any network; its head is left out. It is left as it was.
        data: splits of images; see `embed_split`.
        options: those of `embed_split`.

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
    """A split of images -> a split of their embeddings `[N, D]`, in the same order, with the same classes.

    Where every turn of a class is a class of its own (`rotations="classes"`), each is embedded.

    Args:
        model: any network; its head is left out. It is left as it was.
        split: of images.
        head: name of the head; by default the last `nn.Linear`.
        views: average over 1, 2 (mirrored) or 10 (and four corners of each) views of an image.
        device: where to compute; by default where the model is.
        keep: on disk, in the user's cache folder, under a hash of weights, transform and images, for a second call.

    Raises:
        InputError: random rotations; batch norm without stored statistics; examples that the model does not take.
    """
    return embedded_by(_frozen(model, head, views), split, device=device, keep=keep)


def embedded_by(
    head: FeatureHead,
    split: Split,
    *,
    device: torch.device | str | None = None,
    keep: bool = True,
    normalised: bool = False,
) -> Split:
    """As `embed_split`, by what embeds the examples of a head on features, and as the head normalises them if asked."""
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
        return torch.cat([_embed(head, rows, read, size, what, device) for read in reads]), []

    x = make()[0] if not keep else cached("features", _key(head) | _key_of(split, len(turns)), make)[0]
    y = torch.cat([split.y + turn * (len(split.classes) // len(turns)) for turn in turns])
    return Split(head.normalised(x.to(device_of(head))) if normalised else x, y, split.classes, split.name)


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
    """A folder of class folders of images -> a split of their embeddings `[N, D]`.

    Kept on disk under a hash of weights, transform and the files' names, sizes and times of change, so that a second
    call decodes nothing.

    Args:
        model: as in `embed_split`.
        folder: holds one folder for each class.
        transform: how an image becomes what the model sees; by default the network's own (`models.images_of`).
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
    frozen = _frozen(model, head, views)

    def make() -> tuple[Tensor, list[str]]:
        def read(part: Tensor) -> Tensor:
            return how.scaled(datasets.load_images([paths[row] for row in part], how))

        size = how.channels * how.image_size**2
        return _embed(frozen, torch.arange(len(paths)), read, size, f"embedding {folder}", device), []

    base = Path(folder).resolve()
    files = {"root": str(base), "files": fingerprint(paths, Path(folder)), "transform": dataclasses.asdict(how)}
    x, _ = cached("features", _key(frozen) | files, make)
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
    """The embeddings of a data set by a frozen network, both by name, computed once and kept on disk.

    The network's own image size, mean and deviation are taken where it has weights.

    Args:
        dataset: data set by name.
        model: network by name.
        dataset_options, model_options: theirs.
        views: as in `embed_split`.

    Raises:
        InputError: as `embed_split`, the data set and the network.
    """
    network = models.create(model, **(model_options or {}))
    data = datasets.create(dataset, **(models.image_options(network) | (dataset_options or {})))
    return embed_data(network, data, views=views)


def _frozen(model: nn.Module, head: str | None, views: int) -> FeatureHead:
    bare = [name for name, layer in batch_norms(model).items() if layer.running_mean is None]
    if bare:
        raise InputError(
            f"The batch norm '{bare[0]}' of {type(model).__name__} keeps no running statistics, so that the "
            "features of an image depend on those beside it; make it with track_running_stats=True."
        )
    return FeatureHead(model, head=head, batch_norm="running", views=views)


@torch.no_grad()
def _embed(
    head: FeatureHead,
    rows: Tensor,
    read: Callable[[Tensor], Tensor],
    size: int,
    what: str,
    device: torch.device | str | None,
) -> Tensor:
    """Embeddings `[N, D]` of what `read` gives of parts of `rows`, in batches of bounded memory, on the CPU."""
    from tqdm import tqdm

    place = find_device(device) if device is not None else device_of(head)
    if place != device_of(head):
        head = copy.deepcopy(head).to(place)
    found = []
    with kept_modes(head), tqdm(desc=what, total=len(rows), leave=False, delay=1, disable=None, unit=" images") as bar:
        head.eval()
        for part in rows.split(max(1, VALUES // max(1, size))):
            x = read(part).to(place)
            found.append(head.embed_support(x.to(dtype_of(head)) if x.is_floating_point() else x)[0].cpu())
            bar.update(len(part))
    return torch.cat(found)


def _key(head: FeatureHead) -> dict[str, Any]:
    """What embeddings depend on, apart from the images: the layers, the weights, the views."""
    digest = hashlib.sha256(repr(head.model).encode())
    for name, tensor in head.model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return {"weights": digest.hexdigest(), "views": head.views}


def _key_of(split: Split, turns: int) -> dict[str, Any]:
    transform = dataclasses.asdict(split.transform) if split.transform else None
    return {"images": hashlib.sha256(_bytes(split.x)).hexdigest(), "transform": transform, "turns": turns}


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
