"""Repairs that old dependencies need, each with its reason. Nothing here runs at import."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import threading
import warnings
from types import ModuleType
from typing import Any

_lock = threading.Lock()
_kept: list[Any] = []  # a torch.library.Library takes its schemas with it when it is collected


def _declare_torchvision_operators() -> None:
    """torchvision built for CUDA cannot load its compiled operators beside a CPU build of torch, and then
    its import dies for want of two schemas (pytorch/vision#8985). Data sets, transforms and models need neither
    operator; declaring the schemas lets them import.
    """
    import torch

    if "torchvision" in sys.modules:
        return
    with contextlib.suppress(Exception):  # load the real operators where they load
        import importlib.util

        spec = importlib.util.find_spec("torchvision")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            for library in __import__("pathlib").Path(folder).glob("_C*.so"):
                torch.ops.load_library(str(library))
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(library)


def _quietly(name: str) -> ModuleType:
    """Import without the notices (gym) and warnings (invalid escapes, old APIs) that the import gives."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def torchvision() -> ModuleType:
    """torchvision, imported on first use."""
    with _lock:
        _declare_torchvision_operators()
        return _quietly("torchvision")


def learn2learn() -> ModuleType:
    """learn2learn, imported on first use, silently: it imports torchvision and gym, and gym prints a notice."""
    with _lock:
        _declare_torchvision_operators()
        return _quietly("learn2learn")


def higher() -> ModuleType:
    """higher, imported on first use: its docstrings hold invalid escapes, which newer Pythons warn of."""
    return _quietly("higher")
