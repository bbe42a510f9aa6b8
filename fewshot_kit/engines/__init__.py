"""How a meta-batch is run: `engines.meta_backward(algorithm, meta_batch, engine="loop")`."""

from .run import ENGINES, choose, meta_backward

__all__ = ["ENGINES", "choose", "meta_backward"]
