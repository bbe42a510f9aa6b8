"""The registry of data sets. `datasets` passes on its methods."""

from ..registry import Registry

registry = Registry("dataset")
register, create, names, get = registry.register, registry.create, registry.names, registry.get
