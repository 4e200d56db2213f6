"""Orders through their whole life against a store, a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass

from api.clock import now_ms
from api.store import IdempotencyKey, Receipt, Store
from dispatch import commands as c
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, Place, RouteStop
from dispatch.registry import OrderForm, StopForm

CITY = "bench"
BATCH = 8  # offers of one plan


@dataclass
class Worker:
    """Brings batches of orders through, one after the other."""

    store: Store
    name: str
    epoch: int

    async def batch(self, number: int) -> None:
        """`BATCH` orders from the first request to completion: 9 transactions each, and a plan."""
        orders = [await self._create(f"{self.name}-{number}-{n}") for n in range(BATCH)]
        at_ms = now_ms()
        offers = [(o.id, self._offer(o, at_ms)) for o in orders]
        receipts = [
            Receipt(
                order_id=o.id,
                round_at_ms=at_ms,
                body={
                    "rider_id": self.name,
                    "solver": "hungarian",
                    "cost": 1234.5,
                    "pickup_ms": at_ms + 300_000,
                    "done_ms": at_ms + 900_000,
                },
            )
            for o in orders
        ]
        written = await self.store.write_plan(CITY, self.epoch, offers, receipts)
        assert len(written.committed) == BATCH
        for order in orders:
            await self._serve(order.id)

    async def _create(self, order_id: str) -> Order:
        """As the API hands it over: points only, addresses are no part of an order."""
        at_ms = now_ms()
        stops = tuple(
            StopForm(place=Place(lat=31.23 + d, lon=121.47, system="gcj02")) for d in (0.0, 0.01)
        )
        form = OrderForm(customer_id=f"customer-{order_id}", merchant_id="shop", stops=stops)
        order = JOB.order(order_id, CITY, form, JOB.quote(form, at_ms), at_ms)
        key = IdempotencyKey(client_id="default/customer/x", key=order_id, body_hash="0" * 64)
        return (await self.store.create_order(order, at_ms, idempotency=key)).order

    def _offer(self, order: Order, at_ms: int) -> c.Offer:
        return c.Offer(
            at_ms=at_ms,
            rider_id=self.name,
            deadline_ms=at_ms + 60_000,
            route=tuple(RouteStop(order_id=order.id, stop=n) for n in (0, 1)),
            order_version=order.version,
        )

    async def _serve(self, order_id: str) -> None:
        who = self.name
        asked: list[c.Command] = [c.Accept(at_ms=now_ms(), rider_id=who, number=1)]
        for stop in (0, 1):
            asked += [
                c.Head(at_ms=now_ms(), rider_id=who, stop=stop),
                c.Arrive(at_ms=now_ms(), rider_id=who, stop=stop),
                c.FinishStop(at_ms=now_ms(), rider_id=who, stop=stop),
            ]
        for n, command in enumerate(asked):
            outcome = await self.store.run(order_id, command, action_id=f"action-{n}")
            assert outcome.refusal is None, outcome.refusal
        assert (await self.store.run(order_id, c.Complete(at_ms=now_ms()))).refusal is None
