"""learn2learn with the kit's `MAML` and `MetaSGD` in place of its own, for scripts that are written for learn2learn:

    from fewshot_kit import learn2learn as l2l  # was: import learn2learn as l2l

Everything else is learn2learn's own. This module imports it at once, so that a script's other imports of learn2learn
get it with the repairs of `compat`.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from . import compat
from .algorithms import MAML, MetaSGD

_library = compat.learn2learn()
algorithms = SimpleNamespace(**vars(_library.algorithms) | {"MAML": MAML, "MetaSGD": MetaSGD})


def __getattr__(name: str) -> Any:
    if name == "__path__":  # with it Python would import learn2learn's modules a second time
        raise AttributeError(f"{__name__} is no package.")
    return getattr(_library, name)
