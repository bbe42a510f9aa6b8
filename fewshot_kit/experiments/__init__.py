"""Training runs from settings, for `fewshot-kit train` and for the tables of results."""
