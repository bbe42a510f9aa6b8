"""Where data sets and caches are looked for."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def find_root(root: str | Path | None = None) -> Path:
    """The folder of data sets: `root`, else `$FEWSHOT_KIT_DATA`, else the user's data folder. It need not exist."""
    chosen = root or os.environ.get("FEWSHOT_KIT_DATA")
    if not chosen:
        from platformdirs import user_data_dir

        chosen = user_data_dir("fewshot-kit", appauthor=False)
    return Path(chosen).expanduser()


def find_cache(beside: Path) -> Path:
    """The folder for decoded images: `$FEWSHOT_KIT_CACHE`, else beside the data, else the user's cache folder."""
    chosen = os.environ.get("FEWSHOT_KIT_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    if writable(beside):
        return beside / ".fewshot-kit"
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("fewshot-kit", appauthor=False))


def writable(folder: Path) -> bool:
    """Whether files may be put there. A folder marked read-only stays untouched, even where root could write."""
    marked = folder.is_dir() and folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    return bool(marked) and os.access(folder, os.W_OK)
