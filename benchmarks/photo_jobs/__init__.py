"""The parts of benchmarks/few_photos.py."""
