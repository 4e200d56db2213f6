"""Benchmarks: `python -m bench speed ...`; each prints one JSON line a size, with its rival's figure
from the same run. Machines are noisy: read the ratios and medians."""
