"""`fewshot-kit doctor`: checks this machine, and says how to mend what is wrong."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType

import torch

from .. import __version__, algorithms, compat, datasets, models
from ..errors import InputError, first_line

VERSIONS = ("torch", "torchvision", "learn2learn", "higher", "numpy", "pillow")
OLD_CACHE = ".fewshot-kit"
REINSTALL = "Install the kit again as its README shows."


@dataclass(frozen=True)
class Check:
    """One finding. `ok` with a `mend` is a note: something could be better, but the kit works without it."""

    name: str
    ok: bool
    said: str
    mend: str = ""


def diagnose() -> list[Check]:
    """Checks versions, devices, libraries, plug-ins, data and caches. It imports learn2learn, so it takes seconds."""
    return [
        Check("python", sys.version_info >= (3, 10), f"{platform.python_version()} at {sys.executable}"),
        Check("fewshot_kit", True, __version__),
        *map(_version, VERSIONS),
        Check("cpu", True, f"{torch.get_num_threads()} threads of {os.cpu_count()} processors"),
        _cuda(),
        _operators(),
        *(_imports(library) for library in (compat.torchvision, compat.learn2learn, compat.higher)),
        *_plugins(),
        _data(),
        _cache(),
        *_old_caches(),
    ]


def render(checks: list[Check]) -> str:
    """Returns one line for each check, and a second line if something can be mended."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        mark = "FAULT" if not check.ok else "note" if check.mend else "ok"
        lines.append(f"{mark:<5}  {check.name:<{width}}  {check.said}")
        if check.mend:
            lines.append(f"{'':<5}  {'':<{width}}  -> {check.mend}")
    return "\n".join(lines)


def _version(package: str) -> Check:
    try:
        return Check(package, True, metadata.version(package))
    except metadata.PackageNotFoundError:
        return Check(package, False, "not installed", REINSTALL)


def _cuda() -> Check:
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built for CPUs"
        return Check("cuda", True, f"none ({built})")
    return Check("cuda", True, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def _operators() -> Check:
    name = "torchvision's compiled operators"
    why = compat.load_torchvision_operators()
    if why is None:
        return Check(name, True, "load")
    return Check(name, True, f"do not load ({why}); the kit works without them", _matching_pair())


def _matching_pair() -> str:
    try:
        needs = "\n".join(metadata.requires("torchvision") or [])
    except metadata.PackageNotFoundError:
        return REINSTALL
    pair = re.search(r"^torch\s*\(?==([\d.]+)", needs, re.MULTILINE)
    wanted = f"torch=={pair[1]}" if pair else "the torch of the same release"
    return (
        f"If you need them, install torchvision=={metadata.version('torchvision')} and {wanted} from one source, both "
        f"for CPUs or both for the same CUDA; here torch is {torch.__version__}."
    )


def _imports(library: Callable[[], ModuleType]) -> Check:
    name = f"import {library.__name__}"
    try:
        library()
    except Exception as error:  # another library's import can fail in any way; the failure is the finding
        return Check(name, False, f"{type(error).__name__}: {first_line(error)}", REINSTALL)
    return Check(name, True, "works")


def _plugins() -> Iterator[Check]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = {"models": models.names(), "algorithms": algorithms.names(), "datasets": datasets.names()}
    for kind, names in found.items():
        yield Check(kind, True, ", ".join(names))
    for warning in caught:
        yield Check("plug-in", False, str(warning.message), "Mend or uninstall that distribution.")


def _data() -> Check:
    try:
        root = datasets.find_root()
    except InputError as error:
        mend = "Set FEWSHOT_KIT_DATA to the folder of your data sets."
        return Check("data", False, f"$FEWSHOT_KIT_DATA: {error}", mend)
    chosen = "$FEWSHOT_KIT_DATA" if os.environ.get("FEWSHOT_KIT_DATA") else "the user's data folder"
    content = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    if content:
        return Check("data", True, f"{root} ({chosen}) holds {', '.join(content)}")
    return Check(
        "data",
        True,
        f"{root} ({chosen}) {'is empty' if root.is_dir() else 'does not exist'}",
        "Set FEWSHOT_KIT_DATA to the folder of your data sets; --dataset glyphs needs none.",
    )


def _cache() -> Check:
    chosen = "$FEWSHOT_KIT_CACHE" if os.environ.get("FEWSHOT_KIT_CACHE") else "the user's cache folder"
    mend = "Set FEWSHOT_KIT_CACHE to a folder of your own."
    try:
        place = f"{datasets.find_cache()} ({chosen})"
        files = datasets.cached_files()
    except InputError as error:
        return Check("cache", False, f"{chosen}: {error}", mend)
    except OSError as error:
        return Check("cache", True, f"{place} cannot be read: {error.strerror or error}", mend)
    return Check("cache", True, f"{place} holds {size_in_words(files.values())}")


def size_in_words(sizes: Collection[int]) -> str:
    """Returns a text with the number of files and their MB in all, from the bytes of each."""
    return f"{len(sizes)} file{'s' * (len(sizes) != 1)}, {sum(sizes) / 1e6:.1f} MB"


def _old_caches() -> Iterator[Check]:
    """Finds the caches of earlier versions: `.fewshot-kit` in the data folder or in a folder of it."""
    try:
        root = datasets.find_root()
    except InputError:  # which `_data` says
        return
    for folder in sorted({*root.glob(OLD_CACHE), *root.glob(f"*/{OLD_CACHE}")}):
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        said = f"{folder} holds {size_in_words(sizes)} that are not used any more"
        yield Check("old cache", True, said, f"Remove it: rm -r {shlex.quote(str(folder))}")
