"""What the store counts, for Prometheus; imports the clock and prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from api.clock import monotonic_s

SECONDS = Histogram(
    "hexrun_store_seconds",
    "one change in PostgreSQL, to its commit; its count is that of the transactions",
    ["kind"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FAILED = Counter("hexrun_store_failures_total", "changes that raised an error", ["kind", "error"])
RETRIED = Counter(
    "hexrun_store_retries_total",
    "changes that were not as usual, such as of a moved order, and were made again with locks",
    ["kind"],
)


@contextmanager
def timed(kind: str) -> Iterator[None]:
    """Count the change of the block, and how long it takes."""
    began_s = monotonic_s()
    try:
        yield
    except Exception as error:
        FAILED.labels(kind, type(error).__name__).inc()
        raise
    finally:
        SECONDS.labels(kind).observe(monotonic_s() - began_s)
