"""Splits of data sets: their store, their sampler, their classes, and their tasks for learn2learn."""
