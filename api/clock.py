"""The only module that reads a clock; imports nothing of hexrun."""

from __future__ import annotations

import time


def now_ms() -> int:
    """Wall clock: milliseconds since 1970-01-01 UTC. May step when the machine's clock is set."""
    return time.time_ns() // 1_000_000


def monotonic_s() -> float:
    """Seconds from an arbitrary start that never go back; for durations only."""
    return time.monotonic()
