"""The algorithms' registry; the sub-package exports its methods."""

from ..registry import Registry

registry = Registry("algorithm")
register, create, names, get = registry.register, registry.create, registry.names, registry.get
