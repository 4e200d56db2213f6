"""What the HTTP process takes on: placing orders is refused first, then looking; never a rider.

May import the capacity, the store and the errors.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.capacity import Budget, Limits, Load, overloaded
from api.clock import monotonic_s, now_ms
from api.http.errors import overloaded_response
from api.store import Store

CREATING = {("POST", "/v1/orders"), ("POST", "/v1/quotes")}
ALWAYS = ("/livez", "/readyz", "/metrics")
CROWD_ASK_S = 2.0
_OPEN_STATE = "open"


class Capacity:
    """The process's load and budgets. `leaving`: the door closes soon, clients should go on."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.load, self.leaving = limits, Load(), False
        self.orders = Budget("orders", limits.orders_at_once, limits.orders_waiting)
        self.reads = Budget("reads", limits.reads_at_once, limits.reads_waiting)
        self._crowds: dict[tuple[str, str], tuple[float, bool]] = {}
        self._asking = asyncio.Lock()

    def full_for(self, method: str, path: str) -> str | None:
        """What keeps this request out, None when it may come in."""
        limits, lag_ms = self.limits, self.load.lag_ms
        if (method, path) in CREATING:
            if self.orders.full:
                return self.orders.name
            return "orders_lag" if lag_ms > limits.orders_lag_ms else None
        # What riders do, cancellations and whatever else changes something is always let in.
        if method == "GET" and not path.startswith("/v1/riders") and path not in ALWAYS:
            if self.reads.full:
                return self.reads.name
            return "reads_lag" if lag_ms > limits.watchers_lag_ms else None
        return None

    async def check_crowd(self, store: Store, city: str, tenant: str) -> None:
        """Raises Overloaded where the tenant has too many unmatched orders for its riders."""
        if self.limits.open_orders_per_rider == 0:
            return
        key = city, tenant
        async with self._asking:
            asked_s, full = self._crowds.get(key, (None, False))
            if asked_s is None or monotonic_s() - asked_s > CROWD_ASK_S:
                riders = await store.count_riders_on_shift(city, tenant=tenant)
                orders = await store.counts(city, now_ms(), tenant=tenant)
                most = self.limits.open_orders_per_rider * max(1, riders)
                full = orders.get(_OPEN_STATE, 0) >= most
                self._crowds[key] = monotonic_s(), full
        if full:
            raise overloaded("open_orders_per_rider")


class Valve:
    """ASGI middleware: 503 with Retry-After, before the body is read, for what is not let in."""

    def __init__(self, app: ASGIApp, capacity: Capacity) -> None:
        self._app, self._capacity = app, capacity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        capacity = self._capacity

        async def answer(message: Message) -> None:
            """A connection that is kept would meet a closed door: say so with the answer."""
            if capacity.leaving and message["type"] == "http.response.start":
                kept = [h for h in message["headers"] if h[0].lower() != b"connection"]
                message["headers"] = [*kept, (b"connection", b"close")]
            await send(message)

        what = capacity.full_for(scope["method"], scope["path"])
        if what is not None:
            await overloaded_response(overloaded(what))(scope, receive, answer)
            return
        await self._app(scope, receive, answer)
