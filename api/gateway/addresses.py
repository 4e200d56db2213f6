"""The addresses of orders that connected riders serve, for their routes; in memory alone.

May import the store and the views' rules. Bounded: what falls out is read again when it is needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from api.gateway.views import rider_serving
from api.personal import OrderPersonal
from api.store import Store
from dispatch.model import Order

ORDERS_MAX = 10_000


class Addresses:
    """A least-recently-used copy of `store.personal`, of orders that are accepted only."""

    def __init__(self, store: Store, orders_max: int = ORDERS_MAX) -> None:
        self._store, self._max = store, orders_max
        self._known: OrderedDict[str, OrderPersonal] = OrderedDict()

    async def fetch(self, orders: Iterable[Order]) -> None:
        """Have those that a rider serves. Raises what the store raises."""
        missing = []
        for order in orders:
            if order.id in self._known:
                self._known.move_to_end(order.id)
            elif rider_serving(order) is not None:
                missing.append(order)
        if missing:
            self._known.update(await self._store.personal.of_orders(missing))
        while len(self._known) > self._max:
            self._known.popitem(last=False)

    def forget(self, order_id: str) -> None:
        """Nobody serves the order any more."""
        self._known.pop(order_id, None)

    def text(self, order: Order, stop: int) -> str:
        """The stop's address; empty where it was not fetched, or nobody has accepted the order."""
        if rider_serving(order) is None or order.id not in self._known:
            return ""
        return self._known[order.id].stop(order, stop).text
