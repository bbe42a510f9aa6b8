"""The models' registry; its methods are handed on by the sub-package."""

from ..registry import Registry

registry = Registry("model")
register, create, names, get = registry.register, registry.create, registry.names, registry.get
full_name, knows = registry.full_name, registry.knows
