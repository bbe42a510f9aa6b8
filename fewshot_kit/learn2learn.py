"""learn2learn with the kit's `MAML` and `MetaSGD` in the place of its own, for scripts that are written for it:

    from fewshot_kit import learn2learn as l2l  # was: import learn2learn as l2l

Everything else is learn2learn's own. It is imported here and now, as by the line that this one replaces, so that a
script's other imports of learn2learn find it repaired (`compat`).
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from . import compat
from .algorithms import MAML, MetaSGD

_library = compat.learn2learn()
algorithms = SimpleNamespace(**vars(_library.algorithms) | {"MAML": MAML, "MetaSGD": MetaSGD})


def __getattr__(name: str) -> Any:
    if name == "__path__":  # learn2learn's, by which Python would import its modules a second time
        raise AttributeError(f"{__name__} is no package.")
    return getattr(_library, name)
