"""Functions on any `nn.Module`, which know nothing of algorithms."""
