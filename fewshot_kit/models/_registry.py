"""The models' registry; the sub-package exports its methods."""

from ..registry import Registry

registry = Registry("model")
register, create, names, get = registry.register, registry.create, registry.names, registry.get
full_name, knows = registry.full_name, registry.knows
