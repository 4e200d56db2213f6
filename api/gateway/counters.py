"""What the gateway counts, for Prometheus; imports prometheus_client."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_FIXES = Counter("hexrun_fixes_total", "fixes by what became of them", ["outcome"])
FIXES_STORED = _FIXES.labels("stored")
FIXES_LOST = _FIXES.labels("not_stored")  # the disk refused; their rider was told to send again
FIXES_REPEATED = _FIXES.labels("repeated")
FIXES_REFUSED = _FIXES.labels("refused")

_FRAMES = Counter("hexrun_stream_frames_total", "websocket frames", ["way"])
FRAMES_IN = _FRAMES.labels("in")
FRAMES_OUT = _FRAMES.labels("out")

CONNECTIONS = Gauge("hexrun_stream_connections", "open sockets that said hello", ["city", "role"])
REFUSED = Counter("hexrun_stream_refused_total", "clients not let in", ["why"])
SLOW_CUT = Counter("hexrun_stream_slow_clients_total", "clients cut: too many messages waited")
ACK_SECONDS = Histogram(
    "hexrun_fix_ack_seconds",
    "from taking a frame of fixes to its being on the disk",
    buckets=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30),
)

_BATCHES = Counter("hexrun_pool_batches_total", "batches of fixes for Redis", ["outcome"])
BATCHES_DONE = _BATCHES.labels("done")
BATCHES_FAILED = _BATCHES.labels("failed")
BATCHES_DROPPED = _BATCHES.labels("dropped")
