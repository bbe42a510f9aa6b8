"""How a meta-batch is run: `engines.meta_backward(algorithm, meta_batch, engine="vmap")`."""

from .choice import Choice
from .choosing import ENGINES, choose, usual
from .run import meta_backward

__all__ = ["ENGINES", "Choice", "choose", "meta_backward", "usual"]
