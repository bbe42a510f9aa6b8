"""Finds image files, decodes them and caches them."""
