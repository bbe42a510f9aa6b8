"""The folders of data sets and caches."""

from __future__ import annotations

import os
from pathlib import Path

from ...disk import expanded


def find_root(root: str | Path | None = None) -> Path:
    """Returns `root`, else `$FEWSHOT_KIT_DATA`, else the user's data folder. It need not exist."""
    chosen = root or os.environ.get("FEWSHOT_KIT_DATA")
    if not chosen:
        from platformdirs import user_data_dir

        chosen = user_data_dir("fewshot-kit", appauthor=False)
    return expanded(chosen)


def find_cache() -> Path:
    """Returns the cache folder: `$FEWSHOT_KIT_CACHE`, else the user's cache folder. It need not exist."""
    chosen = os.environ.get("FEWSHOT_KIT_CACHE")
    if not chosen:
        from platformdirs import user_cache_dir

        chosen = user_cache_dir("fewshot-kit", appauthor=False)
    return expanded(chosen)
