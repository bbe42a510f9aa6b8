"""Repairs for old dependencies, each with its reason. Nothing here runs at import."""

from __future__ import annotations

import contextlib
import importlib
import importlib.machinery
import importlib.util
import io
import sys
import threading
import warnings
from types import ModuleType

import torch

LIBRARIES = ("_C_stable", "_C")  # torchvision's compiled operators
_lock = threading.RLock()  # an import swaps warnings and stderr, which all threads share


def load_torchvision_operators() -> str | None:
    """Loads torchvision's compiled operators without importing torchvision.

    Returns:
        The reason why they do not load, or None if they do. A CUDA build does not load with a CPU build of torch.
    """
    package = importlib.util.find_spec("torchvision")
    if package is None:
        return "torchvision is not installed"
    # "_C" until torchvision 0.28. To declare by hand what the library of a later one registers ends the process.
    found = (importlib.machinery.PathFinder.find_spec(name, package.submodule_search_locations) for name in LIBRARIES)
    origin = next((one.origin for one in found if one is not None), None)
    if origin is None:
        return "this build of torchvision has none"
    try:
        torch.ops.load_library(origin)
    except (ImportError, OSError) as error:  # torchvision also treats these as a missing library
        return str(error.__cause__ or error)
    return None


def _declare_torchvision_operators() -> None:
    """Declares the two operators that torchvision's import needs, if its compiled ones do not load.

    Without them the import fails (pytorch/vision#8985). Data sets, transforms and models never call them.
    """
    if "torchvision" in sys.modules or load_torchvision_operators() is None:
        return
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _quietly(name: str) -> ModuleType:
    """Imports a module without its notices (gym) and warnings (invalid escapes, old APIs)."""
    with _lock, warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def torchvision() -> ModuleType:
    """Returns torchvision, imported on first use."""
    with _lock:
        _declare_torchvision_operators()
        return _quietly("torchvision")


def learn2learn() -> ModuleType:
    """Returns learn2learn, imported silently on first use. It imports torchvision, and gym, which prints a notice."""
    with _lock:
        _declare_torchvision_operators()
        return _quietly("learn2learn")


def higher() -> ModuleType:
    """Returns higher, imported silently on first use. Newer Pythons warn of invalid escapes in its docstrings."""
    return _quietly("higher")
