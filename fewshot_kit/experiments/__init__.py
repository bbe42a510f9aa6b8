"""A training run from its settings: what `fewshot-kit train` and the tables of figures both do."""
