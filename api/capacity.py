"""What a process takes on: limits, budgets, the lag of its event loop; may import the metrics.

What is refused for want of room raises `Overloaded`, which says what was full. Every refusal is
counted in `hexrun_overloaded_total{what}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields

from prometheus_client import Counter, Gauge

from api.clock import monotonic_s
from api.metrics import Mode, degraded
from geo.errors import InvalidValue, Overloaded, UnknownName

LOOK_S = 0.1
# The lag that counts is a mean over about so many looks: one slow call refuses nobody.
LAG_LOOKS = 20
# So long after the last refusal a process still counts as overloaded.
OVER_AFTER_S = 5.0

_REFUSED = Counter("hexrun_overloaded_total", "refused for want of room", ["what"])
_LAG = Gauge("hexrun_loop_lag_seconds", "how late the event loop runs, a mean of some seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a process starts to refuse. Set by `HEXRUN_LIMITS`, such as `connections=500`.

    `*_at_once` of the store's 12 connections are used by one kind of request, so that the rest is
    always there for what riders do; `*_waiting` may wait for one. `*_lag_ms` is the lag of the
    event loop from which a kind is refused.
    """

    orders_at_once: int = 4
    orders_waiting: int = 64
    reads_at_once: int = 4
    reads_waiting: int = 256
    orders_lag_ms: int = 1_000
    watchers_lag_ms: int = 2_000
    idle_riders_lag_ms: int = 4_000
    connections: int = 20_000
    # Unmatched orders for each rider on shift of a tenant from which he may place no more; 0: any.
    open_orders_per_rider: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            least = 0 if f.name == "open_orders_per_rider" or f.name.endswith("_waiting") else 1
            if getattr(self, f.name) < least:
                raise InvalidValue(f"HEXRUN_LIMITS: {f.name}", getattr(self, f.name), f">= {least}")


def read_limits(environ: Mapping[str, str]) -> Limits:
    """`HEXRUN_LIMITS`: `name=number` with commas between. Raises InvalidValue, naming the part."""
    known = [f.name for f in fields(Limits)]
    given: dict[str, int] = {}
    for part in filter(None, environ.get("HEXRUN_LIMITS", "").replace(" ", "").split(",")):
        name, _, number = part.partition("=")
        if name not in known:
            raise UnknownName("HEXRUN_LIMITS", name, "one of " + ", ".join(known))
        if not (number.isascii() and number.isdigit()):
            raise InvalidValue(f"HEXRUN_LIMITS: {name}", number, "a whole number")
        given[name] = int(number)
    return Limits(**given)


class _Last:
    """When the process has refused somebody last."""

    refused_s: float | None = None


def overloaded(what: str) -> Overloaded:
    """The error that says `what` was full; counted."""
    _REFUSED.labels(what).inc()
    _Last.refused_s = monotonic_s()
    return Overloaded(what)


class Budget:
    """So many at once; of the others so many wait, for `wait_s` at most; the rest is refused."""

    def __init__(self, name: str, at_once: int, waiting_max: int, wait_s: float = 2.0) -> None:
        self.name, self.waiting = name, 0
        self._at_once = asyncio.Semaphore(at_once)
        self._waiting_max, self._wait_s = waiting_max, wait_s

    @property
    def full(self) -> bool:
        """Whether who comes now is refused."""
        return self._at_once.locked() and self.waiting >= self._waiting_max

    @asynccontextmanager
    async def share(self) -> AsyncIterator[None]:
        """Hold one of its places. Raises Overloaded: nothing was done."""
        if self.full:
            raise overloaded(self.name)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._at_once.acquire()
        except TimeoutError:
            raise overloaded(self.name) from None
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._at_once.release()


class Load:
    """How late the event loop is; says by the mode `overloaded` that somebody is refused."""

    def __init__(self) -> None:
        self.lag_ms = 0.0

    async def run(self) -> None:
        """Measure each LOOK_S, until cancelled."""
        while True:
            before_s = monotonic_s()
            await asyncio.sleep(LOOK_S)
            now_s = monotonic_s()
            late_ms = max(0.0, (now_s - before_s - LOOK_S) * 1000)
            self.lag_ms += (late_ms - self.lag_ms) / LAG_LOOKS
            _LAG.set(self.lag_ms / 1000)
            last_s = _Last.refused_s
            degraded(Mode.OVERLOADED, last_s is not None and now_s - last_s < OVER_AFTER_S)
