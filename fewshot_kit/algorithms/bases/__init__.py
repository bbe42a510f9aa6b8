"""Base classes of the algorithms, and the functions that several algorithms share."""
