"""Engines run meta-batches: `engines.meta_backward(algorithm, meta_batch, engine="vmap")`."""

from .choice import Choice
from .processes import Processes
from .run import meta_backward
from .selection import ENGINES, choose, usual

__all__ = ["ENGINES", "Choice", "Processes", "choose", "meta_backward", "usual"]
