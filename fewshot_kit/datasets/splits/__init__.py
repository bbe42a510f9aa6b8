"""Splits: the store, the samplers, which class is in which split, learn2learn's tasks."""
