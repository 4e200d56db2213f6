"""The addresses of orders that connected riders serve, for their routes; in memory alone.

May import the store and the views' rules. Bounded: what falls out is read again when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterable

from api.gateway.recent import Recent
from api.gateway.views import rider_serving
from api.personal import OrderPersonal
from api.store import Store
from dispatch.model import Order

ORDERS_MAX = 10_000


class Addresses:
    """A least-recently-used copy of `store.personal`, of orders that are accepted only."""

    def __init__(self, store: Store, orders_max: int = ORDERS_MAX) -> None:
        self._store, self._known = store, Recent[OrderPersonal](orders_max)

    async def fetch(self, orders: Iterable[Order]) -> None:
        """Have those that a rider serves. Raises what the store raises."""
        missing = [
            order
            for order in orders
            if self._known.get(order.id) is None and rider_serving(order) is not None
        ]
        if missing:
            for order_id, personal in (await self._store.personal.of_orders(missing)).items():
                self._known.put(order_id, personal)

    def forget(self, order_id: str) -> None:
        """Nobody serves the order any more."""
        self._known.forget(order_id)

    def text(self, order: Order, stop: int) -> str:
        """The stop's address; empty where it was not fetched, or nobody has accepted the order."""
        known = None if rider_serving(order) is None else self._known.get(order.id)
        return "" if known is None else known.stop(order, stop).text
