"""The parts of benchmarks/soak.py: kills, damaged files, and files that somebody made in malice."""
