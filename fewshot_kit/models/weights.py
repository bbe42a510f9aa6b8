"""Loads weights from a safetensors file, or from a `torch.save` file of tensors alone. No code in a pickle is run."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..disk import expanded
from ..errors import InputError

TAKES = "weights=FILE takes a safetensors file or one that torch.save made of a state_dict"
WRAPPERS = ("state_dict", "model")  # keys under which training scripts store a network, beside their optimiser
COUNTER = "num_batches_tracked"  # a buffer of batch norm; older files lack it, and nothing is computed from it


def load_weights(
    model: nn.Module, file: str | Path, label: str, heads: Sequence[str], ignored: tuple[str, ...] = ()
) -> None:
    """Loads the weights in a file into a network, in place, including the head if it fits.

    A head that has another size in the file, or is not in it, stays as it is. If the first convolution in the file is
    for another number of channels, the network gets the mean of its weights over these channels, scaled so that a grey
    image gives the same output as in colour. If no name is the same but all shapes are, in order, the file is from
    another implementation of the network: its tensors are taken in order, with a warning.

    Args:
        model: the network.
        file: path of the file.
        label: name of the network in messages.
        heads: the names of its heads.
        ignored: prefixes of tensors in the file that the network does not need.

    Raises:
        InputError: as `read_weights`; the file does not fit, and the message names the first tensor that differs.
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
    model.load_state_dict(state, strict=False)  # only the counters are missing


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
    """Returns the named tensors of a file, on the CPU.

    A `{"state_dict": ...}` or `{"model": ...}` around them is removed, and so is the prefix `module.` that
    `DataParallel` puts before every name.

    Raises:
        InputError: the file does not exist, is damaged or has no named tensors; or it pickles anything but tensors, and
            is then not opened.
    """
    path = expanded(file)
    try:
        with path.open("rb") as opened:
            start = opened.read(9)
    except OSError as error:
        raise InputError(f"The weights {file} cannot be read ({error.strerror}); {TAKES}.") from None
    found = _read(path, start[8:] == b"{")  # a safetensors file starts with 8 bytes of length, then JSON
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
        with warnings.catch_warnings():  # torch.load warns of other kinds of files, which are refused below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail in any way
        # torch's own message would advise to open the pickle all the same.
        pickled = re.search(r"GLOBAL (\S+) ", str(error))
        if pickled:
            raise InputError(
                f"The weights {path} hold a pickle of {pickled[1]}, and opening one can run any code, so it was not "
                f"opened; {TAKES}."
            ) from None
        raise InputError(
            f"The weights {path} are damaged, or something other than tensors ({type(error).__name__}); {TAKES}."
        ) from None
