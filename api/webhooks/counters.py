"""What the sender counts; imports prometheus_client. Labels name cities, never endpoints."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

DELIVERIES = Counter(
    "hexrun_webhook_deliveries_total",
    "Attempts by what came of them: delivered, refused (an answer but 2xx), no_answer, dead",
    ["city", "outcome"],
)
LATENCY = Histogram(
    "hexrun_webhook_latency_seconds",
    "From the request to its answer",
    ["city"],
    buckets=(0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
)
LAG_POSITIONS = Gauge(
    "hexrun_webhook_lag_positions",
    "How far the cursor that is furthest behind is from the head of the feed",
    ["city"],
)
LAG_SECONDS = Gauge(
    "hexrun_webhook_lag_seconds", "For how long the oldest undelivered event waits", ["city"]
)
PAUSED = Gauge("hexrun_webhook_paused_endpoints", "Endpoints that are paused", ["city"])
DEAD = Gauge("hexrun_webhook_dead_letters", "Events that were given up and not retried", ["city"])
