"""Weights from a file: safetensors, or what `torch.save` wrote of tensors alone. Nothing in a pickle is run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError

TAKES = "weights=FILE takes a safetensors file or one that torch.save made of a state_dict"
WRAPPERS = ("state_dict", "model")  # what training scripts keep a network under, beside their optimiser
COUNTER = "num_batches_tracked"  # of batch norms; older files have none, and nothing is computed from it


def load_weights(
    model: nn.Module, file: str | Path, label: str, heads: Sequence[str], ignored: tuple[str, ...] = ()
) -> None:
    """Fill a network, in place, from a file of its weights, its head too where that fits.

    A head that has another size in the file, or is not in it, stays as it is. The first convolution takes the weights
    of one for other channels as their mean over these, scaled so that a grey image gives what it would give in colour.
    Where not one name is the same, but the shapes are, in their order, these are the weights of another implementation:
    they are taken in order, which is a warning.

    Args:
        label: what messages call the network.
        heads: the names of its heads.
        ignored: starts of the names of what is in the file and the network does without.

    Raises:
        InputError: as `read_weights`; a file that does not fit, with the first tensor that differs.
    """
    own = {name: tensor for name, tensor in model.state_dict().items() if not name.endswith(COUNTER)}
    state = {
        name: tensor
        for name, tensor in read_weights(file).items()
        if not name.endswith(COUNTER) and not name.startswith(ignored)
    }
    inside = {head: tuple(name for name in own if name.startswith(f"{head}.")) for head in heads}
    stem = next((f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Conv2d)), None)
    free = {stem}.union(*inside.values())
    alike = [name in free or own[name].shape == tensor.shape for name, tensor in zip(own, state.values(), strict=False)]
    if not own.keys() & state.keys() and len(own) == len(state) and all(alike):
        state = dict(zip(own, state.values(), strict=True))
        warnings.warn(
            f"{file} has other names than {label}, and the same shapes: its {len(state)} tensors are taken in order.",
            stacklevel=2,
        )
    for head, names in inside.items():
        if any(name not in state or state[name].shape != own[name].shape for name in names):
            state = {name: tensor for name, tensor in state.items() if not name.startswith(f"{head}.")}
            state |= {name: own[name] for name in names}
    if stem in state and stem in own and state[stem].shape[1:2] != own[stem].shape[1:2] and state[stem].dim() == 4:
        channels = own[stem].shape[1]
        state[stem] = state[stem].sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
    _check_fit(file, label, state, own)
    model.load_state_dict(state, strict=False)  # all but the counters


def _check_fit(file: str | Path, label: str, state: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    for name in [*own, *state]:
        shapes = [list(each[name].shape) if name in each else None for each in (state, own)]
        if shapes[0] != shapes[1]:
            there, here = ("no such tensor" if shape is None else f"shape {shape}" for shape in shapes)
            begins = f" (its first is '{next(iter(state))}')" if shapes[0] is None else ""
            raise InputError(
                f"{file} does not fit {label}: '{name}' has {there} in the file{begins} and {here} in the network; "
                "give a file of that network's weights, or the network that the file is of."
            )


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """The named tensors of a file, on the CPU. `{"state_dict": ...}` or `{"model": ...}` around them is taken off, and
    the `module.` before every name that `DataParallel` leaves.

    Raises:
        InputError: no such file; a damaged one; one that pickles anything but tensors, which is not opened; one
            without named tensors.
    """
    path = Path(file).expanduser()
    try:
        with path.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise InputError(f"The weights {file} cannot be read ({error.strerror}); {TAKES}.") from None
    found = _read(path, start[8:] == b"{")  # a safetensors file has its header's length, then JSON
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not (isinstance(found, Mapping) and found and all(isinstance(value, Tensor) for value in found.values())):
        raise InputError(f"The weights {file} hold no dict of named tensors; {TAKES}.")
    bare = all(str(name).startswith("module.") for name in found)
    return {str(name).removeprefix("module.") if bare else str(name): tensor for name, tensor in found.items()}


def _read(path: Path, safe: bool) -> Any:
    import safetensors.torch

    try:
        if safe:
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():  # of other kinds of files, which are refused below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail in any way
        # What torch says goes on to advise that the pickle be opened all the same.
        pickled = re.search(r"GLOBAL (\S+) ", str(error))
        if pickled:
            raise InputError(
                f"The weights {path} hold a pickle of {pickled[1]}, and opening one can run any code, so it was not "
                f"opened; {TAKES}."
            ) from None
        raise InputError(
            f"The weights {path} are damaged, or something other than tensors ({type(error).__name__}); {TAKES}."
        ) from None
