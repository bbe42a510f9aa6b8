"""Saves algorithms in run folders and loads them again.

A run folder holds config.yaml, metrics.jsonl, checkpoints/{last,best}.safetensors, results.json and curve.png.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .. import algorithms, models
from ..algorithms import Algorithm
from ..algorithms.bases.replacing import with_options
from ..datasets.splits.contract import DataSet
from ..errors import InputError, UnknownName, first_line
from .config import describe, plain, read_config, write_config
from .recorded import check_recipes
from .storage import flatten, read, unflatten, write, write_bytes

__all__ = [
    "describe",
    "find_state",
    "flatten",
    "load",
    "load_state",
    "read",
    "read_config",
    "read_state",
    "rebuild",
    "record_results",
    "save",
    "save_state",
    "state_path",
    "unflatten",
    "write",
]


def state_path(run: str | Path, which: str = "last") -> Path:
    """Returns the path of a run folder's checkpoint."""
    return Path(run) / "checkpoints" / f"{which}.safetensors"


def save_state(
    path: str | Path,
    algorithm: Algorithm,
    extra: Any = None,
    meta: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
) -> None:
    """Writes a checkpoint: the algorithm's state (or another `state`), and any nested tensors in `extra`."""
    tensors, structure = flatten({"algorithm": dict(state or algorithm.state_dict()), "extra": extra})
    write(path, tensors, {"structure": structure, "kept": meta})


def load_state(path: str | Path, algorithm: Algorithm) -> tuple[Any, Any]:
    """Loads a checkpoint into an algorithm, with the checkpoint's dtypes.

    Returns:
        The `extra` and `meta` that `save_state` got.

    Raises:
        InputError: the file cannot be used, or belongs to another model (with the first tensor that differs).
    """
    saved, meta = read_state(path)
    fill(algorithm, saved["algorithm"], path)
    return saved["extra"], meta


def rebuild(
    path: str | Path, *, model: nn.Module | None = None, algorithm: Algorithm | None = None
) -> tuple[Algorithm, Any, dict[str, Any]]:
    """Rebuilds the algorithm of a file that `save_state` wrote with `meta={"recipes": describe(algorithm), ...}`.

    Returns:
        The rebuilt (or given) algorithm with its state, and the `extra` and `meta` that `save_state` got.

    Raises:
        InputError: as `load`.
    """
    saved, meta = read_state(path)
    if not isinstance(meta, dict) or "recipes" not in meta:
        raise InputError(f"{path} does not say how its algorithm is made; give a file that a learner was saved to.")
    check_recipes(meta["recipes"], path)
    return _filled(meta["recipes"], saved["algorithm"], path, path, model, algorithm), saved["extra"], meta


def read_state(path: str | Path) -> tuple[dict[str, Any], Any]:
    """Reads what `save_state` wrote: a dict with the state under `"algorithm"` and `"extra"`, and the `meta`.

    Raises:
        InputError: the file cannot be used, or is no checkpoint.
    """
    tensors, meta = read(path)
    if not isinstance(meta, dict) or "structure" not in meta or "kept" not in meta:
        raise InputError(f"{path} holds no algorithm; give a checkpoint of a run folder.")
    try:
        state = unflatten(tensors, meta["structure"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged: its structure is none that is saved; restore it from a copy.") from error
    if not isinstance(state, dict) or not isinstance(state.get("algorithm"), dict) or "extra" not in state:
        raise InputError(f"{path} holds no algorithm; give a checkpoint of a run folder.")
    return state, meta["kept"]


def fill(algorithm: Algorithm, state: dict[str, Any], source: str | Path) -> None:
    """Loads a state dict with its dtypes. The error names the tensor that does not fit."""
    for name, buffer in algorithm.named_buffers():
        if not buffer.numel() and isinstance(state.get(name), Tensor):  # an unset buffer takes the stored size
            buffer.data = torch.empty_like(state[name], device=buffer.device)
    own = algorithm.state_dict()
    for name in [*state, *own]:
        shapes = [
            list(each[name].shape) if isinstance(each.get(name), Tensor) else name in each for each in (state, own)
        ]
        if shapes[0] != shapes[1]:
            there, here = ("no such tensor" if shape is False else f"shape {shape}" for shape in shapes)
            raise InputError(
                f"{source} does not fit {type(algorithm.model).__name__}: '{name}' has {there} in the file and {here} "
                "in the model; load it into the model that it was saved from."
            )
        if shapes[0] is not True and state[name].is_floating_point() != own[name].is_floating_point():
            raise InputError(
                f"{source} does not fit {type(algorithm.model).__name__}: '{name}' is of type {state[name].dtype} in "
                f"the file and {own[name].dtype} in the model; load it into the model that it was saved from."
            )
    # Tensors are replaced in place, so that tied weights stay tied.
    for name, tensor in [*algorithm.named_parameters(), *algorithm.named_buffers()]:
        if name in state:
            tensor.data = tensor.data.to(state[name].dtype)
    algorithm.load_state_dict(state)


def save(
    algorithm: Algorithm,
    path: str | Path,
    *,
    data: DataSet | None = None,
    ways: int | None = None,
    shots: int | None = None,
) -> Path:
    """Saves an algorithm to a folder for `load`. It replaces what `save` wrote there before.

    Args:
        algorithm: any algorithm. If its class or its model is unregistered, `load` needs that object again.
        path: the folder.
        data: the data set that it was trained on, to record its transform, image shape and class names.
        ways, shots: the task that it was trained for, to be recorded.

    Raises:
        InputError: the folder holds a training run, or cannot be written to.
    """
    folder = Path(path)
    if (folder / "metrics.jsonl").exists():
        raise InputError(f"{folder} holds a training run; save to another folder.")
    task = {"ways": ways, "shots": shots}
    training = {name: count for name, count in task.items() if count is not None}
    write_config(folder, describe(algorithm, data, training))
    save_state(state_path(folder), algorithm)
    return folder


def load(
    path: str | Path,
    *,
    model: nn.Module | None = None,
    algorithm: Algorithm | None = None,
    which: Literal["best", "last"] = "best",
) -> Algorithm:
    """Returns the algorithm of a run folder, on the CPU, rebuilt with the options that it was tested with.

    Args:
        path: a run folder of `meta_train` or `save`.
        model: a module to fill, if the model's class is unregistered.
        algorithm: an algorithm to fill (in place) instead of making one.
        which: the checkpoint; `"best"` takes the last one if there is no best.

    Raises:
        InputError: the folder is missing, half-written, damaged or from a newer version; or its model or algorithm
            is unregistered and has to be passed.
    """
    config, file = read_config(path), find_state(path, which)
    filled = _filled(config, read_state(file)[0]["algorithm"], path, file, model, algorithm)
    return with_options(filled, **config.get("training", {}).get("test_options", {}))


def find_state(run: str | Path, which: Literal["best", "last"] = "best") -> Path:
    """Returns the path of a run folder's checkpoint; `"best"` takes the last one if there is no best.

    Raises:
        InputError: the folder has no checkpoint.
    """
    file = state_path(run, which)
    if which == "best" and not file.exists():
        file = state_path(run, "last")
    if not file.exists():
        raise InputError(
            f"{run} has no {file.name}: the run never reached its first checkpoint; train it with --resume."
        )
    return file


def _filled(
    config: dict[str, Any],
    state: dict[str, Any],
    path: str | Path,
    file: str | Path,
    model: nn.Module | None,
    algorithm: Algorithm | None,
) -> Algorithm:
    """Makes the algorithm that `config` describes, or takes the given one, and loads `state` of `file` into it."""
    if algorithm is None:
        # The initial weights are replaced at once, so their draws must not move the global RNG.
        with torch.random.fork_rng(devices=[]), models.filled_later():
            if model is None:
                model = _make(models.create, config["model"], "model", path)
            algorithm = _make(algorithms.create, config["algorithm"], "algorithm", path, model=model)
        if config.get("batch_norm") is not None:
            algorithm.batch_norm = config["batch_norm"]
    fill(algorithm, state, file)
    for name, parameter in algorithm.named_parameters():
        parameter.requires_grad_(name not in config.get("frozen", []))
    return algorithm


def _make(create: Any, recipe: dict[str, Any], kind: str, path: str | Path, **more: Any) -> Any:
    if "name" not in recipe:
        raise InputError(
            f"{path} was made with the {kind} {recipe['class']}, which cannot be made again from its name alone; "
            f'pass it, as in load("{path}", {kind}={recipe["class"].rsplit(".")[-1]}(...)).'
        )
    try:
        return create(recipe["name"], **recipe["options"], **more)
    except UnknownName:
        raise
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
    except Exception as error:  # options that somebody altered fail in any way
        raise InputError(
            f"{path} cannot be used: the {kind} '{recipe['name']}' cannot be made with its recorded options "
            f"({type(error).__name__}: {first_line(error)}); restore it from a copy."
        ) from error


def record_results(run: str | Path, results: dict[str, Any]) -> None:
    """Adds to `results.json`, atomically, and replaces keys that exist."""
    path = Path(run) / "results.json"
    try:
        before = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        before = {}
    before = before if isinstance(before, dict) else {}
    write_bytes(path, json.dumps(before | plain(results), indent=2).encode())
