"""What the processes count, and which parts they do without; may import prometheus_client.

Names follow Prometheus: `hexrun_<noun>_<unit>`, `_total` for what only grows. A label has few
values: a city, a mode, a code; never an order, a rider or a client.
"""

from __future__ import annotations

from enum import StrEnum

import structlog
from prometheus_client import Gauge

log = structlog.get_logger(__name__)


class Mode(StrEnum):
    """A way of going on without something; each is a metric and a pair of log lines."""

    REDIS_AWAY = "redis_away"
    POSTGRES_AWAY = "postgres_away"
    POSITIONS_STALE = "positions_stale"
    SOLVER_AWAY = "solver_away"
    SOLVER_LATE = "solver_late"
    DISK_FAILS = "disk_fails"
    DISK_SLOW = "disk_slow"
    CLOCK_JUMPED = "clock_jumped"
    OVERLOADED = "overloaded"
    RATES_LOCAL = "rates_local"
    REVOCATIONS_STALE = "revocations_stale"


_DEGRADED = Gauge("hexrun_degraded", "1 while the process does without this", ["mode", "city"])
_on: set[tuple[Mode, str]] = set()


def degraded(mode: Mode, on: bool, city: str = "", **facts: object) -> None:
    """Say whether the mode is on now; a change is logged once, with the facts."""
    key = mode, city
    if on == (key in _on):
        return
    _DEGRADED.labels(mode, city).set(1 if on else 0)
    if on:
        _on.add(key)
        log.warning("degraded", mode=mode.value, city=city, **facts)
    else:
        _on.discard(key)
        log.info("recovered", mode=mode.value, city=city, **facts)


def modes() -> frozenset[tuple[Mode, str]]:
    """The modes that are on in this process, by city ("" for the process as a whole)."""
    return frozenset(_on)
