"""Repairs that old dependencies need, each with its reason. Nothing here runs at import."""

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

_lock = threading.RLock()  # what is swapped during an import (warnings, stderr) belongs to the whole process


def load_torchvision_operators() -> str | None:
    """Load torchvision's compiled operators, without importing torchvision.

    Returns:
        Why they do not load, or None where they do. Built for CUDA, they do not load beside a CPU build of torch.
    """
    package = importlib.util.find_spec("torchvision")
    if package is None:
        return "torchvision is not installed"
    compiled = importlib.machinery.PathFinder.find_spec("_C", package.submodule_search_locations)
    if compiled is None or compiled.origin is None:
        return "this build of torchvision has none"
    try:
        torch.ops.load_library(compiled.origin)
    except (ImportError, OSError) as error:  # torchvision itself takes these two for a missing library
        return str(error.__cause__ or error)
    return None


def _declare_torchvision_operators() -> None:
    """Without its compiled operators, torchvision's import dies for want of two schemas (pytorch/vision#8985).
    Data sets, transforms and models call neither; declaring the schemas lets them import.
    """
    if "torchvision" in sys.modules or load_torchvision_operators() is None:
        return
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def _quietly(name: str) -> ModuleType:
    """Import without the notices (gym) and warnings (invalid escapes, old APIs) that the import gives."""
    with _lock, warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
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
