"""The measurements of benchmarks/scaling.py: shared meta-updates, links, many classes, and a model of all."""
