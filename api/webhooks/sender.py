"""The process that sends webhooks: leases endpoints and delivers to those it has.

May import the store and the clock. Any number of processes may run: an endpoint is with one of
them, and is taken over seconds after that one has died.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import defaultdict
from typing import Any

import structlog

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s, now_ms
from api.feed import pause
from api.metrics import Mode, degraded
from api.settings import WebhookSettings
from api.store import UNAVAILABLE, Store
from api.store.webhooks import Endpoint
from api.webhooks import counters
from api.webhooks.calling import ANSWER_LIMIT_S, WebhookCaller
from api.webhooks.delivering import Delivering, LeaseLost, View

POLL_S = 1.0
LEASE_S = 4.0
TAKE_MAX = 64  # at a time, so that senders that start together share
RESEND_MAX = 32
TOTALS_EVERY_S = 15.0
LEAVE_LIMIT_S = ANSWER_LIMIT_S + 2.0

log = structlog.get_logger(__name__)


async def run_sender(
    store: Store,
    settings: WebhookSettings,
    view: View,
    stop: asyncio.Event,
    *,
    poll_s: float = POLL_S,
    facts: dict[str, Any] | None = None,
) -> None:
    """Send until `stop` is set; then what is under way has 12 s to end. `facts` say how it goes.

    Outlives every loss of PostgreSQL. With no endpoints it makes one small query each `poll_s`.
    """
    async with WebhookCaller(allow_private=settings.allow_private) as caller:
        sender = _Sender(store, caller, view, settings)
        try:
            while not stop.is_set():
                end_if_cancelled()
                try:
                    await sender.tick()
                    degraded(Mode.POSTGRES_AWAY, False)
                    if facts is not None:
                        facts |= sender.facts()
                except UNAVAILABLE as error:
                    degraded(Mode.POSTGRES_AWAY, True, error=type(error).__name__)
                await pause(stop, poll_s)
        finally:
            await sender.leave()


class _Sender:
    def __init__(
        self, store: Store, caller: WebhookCaller, view: View, settings: WebhookSettings
    ) -> None:
        self._sending = store.webhooks.sending
        self._caller, self._view, self._settings = caller, view, settings
        self._held: dict[str, tuple[Delivering, asyncio.Task[None]]] = {}
        self._resending: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._totals_at_s = 0.0
        self._cities: set[str] = set()

    async def tick(self) -> None:
        """Renew, take what is free, tell everybody how far the feed is."""
        self._sweep()
        await self._renew()
        await self._take()
        if self._held:
            heads = await self._sending.heads()
            for delivering, _ in self._held.values():
                delivering.head = heads.get(delivering.endpoint.city, 0)
                delivering.wake()
            await self._resend()
        self._measure()
        if monotonic_s() >= self._totals_at_s:
            self._totals_at_s = monotonic_s() + TOTALS_EVERY_S
            for city, paused, dead in await self._sending.totals():
                counters.PAUSED.labels(city).set(paused)
                counters.DEAD.labels(city).set(dead)

    def facts(self) -> dict[str, Any]:
        """For the status door."""
        held = [one for one, _ in self._held.values()]
        lag = max((one.head - one.lanes.cursor for one in held), default=0)
        return {"endpoints": len(held), "lag_positions": max(0, lag)}

    async def leave(self) -> None:
        """Let everybody finish and give the leases back."""
        for delivering, _ in self._held.values():
            delivering.leave()
        tasks = [task for _, task in self._held.values()]
        tasks += self._resending.values()
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_LIMIT_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _renew(self) -> None:
        if not self._held:
            return
        until_s = monotonic_s() + LEASE_S
        held = {name: one.endpoint.epoch for name, (one, _) in self._held.items()}
        ours = {e.id: e for e in await self._sending.renew(held, round(LEASE_S * 1000))}
        for name, (delivering, task) in list(self._held.items()):
            endpoint = ours.get(name)
            if endpoint is None:
                # Another one has it, it was changed, or it is deleted.
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                del self._held[name]
                continue
            delivering.endpoint, delivering.lease_until_s = endpoint, until_s
            if endpoint.state == "paused":
                delivering.leave()

    async def _take(self) -> None:
        until_s = monotonic_s() + LEASE_S
        for endpoint in await self._sending.take(TAKE_MAX, round(LEASE_S * 1000)):
            self._drop(endpoint.id)
            delivering = Delivering(
                endpoint, until_s, self._sending, self._caller, self._view, self._settings
            )
            task = asyncio.create_task(_deliver(delivering), name=f"webhooks to {endpoint.id}")
            self._held[endpoint.id] = delivering, task
            log.info("webhook_endpoint_taken", endpoint=endpoint.id, city=endpoint.city)

    def _drop(self, name: str) -> None:
        if name in self._held:
            self._held.pop(name)[1].cancel()

    def _sweep(self) -> None:
        """Forget those that ended: a lease that was not given back runs out by itself."""
        for name, (_, task) in list(self._held.items()):
            if task.done():
                del self._held[name]
        for key, task in list(self._resending.items()):
            if task.done():
                del self._resending[key]

    async def _resend(self) -> None:
        room = RESEND_MAX - len(self._resending)
        if room <= 0:
            return
        for name, position in await self._sending.asked(list(self._held), RESEND_MAX):
            if (name, position) not in self._resending and len(self._resending) < RESEND_MAX:
                work = _resend(self._held[name][0], position)
                self._resending[name, position] = asyncio.create_task(work)

    def _measure(self) -> None:
        positions: defaultdict[str, int] = defaultdict(int)
        seconds: defaultdict[str, float] = defaultdict(float)
        at_ms = now_ms()
        for delivering, _ in self._held.values():
            city, lanes = delivering.endpoint.city, delivering.lanes
            positions[city] = max(positions[city], delivering.head - lanes.cursor)
            oldest_ms = lanes.oldest_ms()
            if oldest_ms is not None:
                seconds[city] = max(seconds[city], (at_ms - oldest_ms) / 1000)
        self._cities |= positions.keys()
        for city in self._cities:
            counters.LAG_POSITIONS.labels(city).set(positions[city])
            counters.LAG_SECONDS.labels(city).set(seconds[city])


async def _deliver(delivering: Delivering) -> None:
    """Run it; what can be expected to end it is a line in the log."""
    endpoint: Endpoint = delivering.endpoint
    try:
        await delivering.run()
    except LeaseLost:
        log.info("webhook_lease_lost", endpoint=endpoint.id, city=endpoint.city)
    except UNAVAILABLE as error:
        log.warning(
            "webhook_delivery_interrupted",
            endpoint=endpoint.id,
            city=endpoint.city,
            error=type(error).__name__,
        )
    except Exception as error:
        # The trace without the variables: they hold secrets.
        trace = "".join(traceback.format_exception(error))
        log.error("webhook_delivery_failed", endpoint=endpoint.id, city=endpoint.city, trace=trace)


async def _resend(delivering: Delivering, position: int) -> None:
    try:
        await delivering.resend(position)
    except LeaseLost:
        return  # asked for still, so whoever has the endpoint does it
    except UNAVAILABLE:
        return
