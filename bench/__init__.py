"""Benchmarks: `python -m bench speed ...` prints a JSON line a size, each with its rival's figure.

Machines are noisy: read the ratios and medians.
"""
