"""The datasets' registry; its methods are handed on by the sub-package."""

from ..registry import Registry

registry = Registry("dataset")
register, create, names, get = registry.register, registry.create, registry.names, registry.get
