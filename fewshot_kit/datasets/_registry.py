"""The registry of data sets. `datasets` passes on its methods."""

from ..registry import Registry

registry = Registry("dataset", {"features": "fewshot_kit.features.features"})
register, create, names, get = registry.register, registry.create, registry.names, registry.get
