"""What customers do, without I/O: the simulator and live bots drive the same minds.

A driver asks `wake_at` when to come back, and carries out what `act` gives. Instants are ms UTC.
"""

from __future__ import annotations

from dispatch.model import Value
from sim.demand import OrderRequest


class PlaceOrder(Value, frozen=True, kw_only=True):
    request: OrderRequest


class CancelOrder(Value, frozen=True, kw_only=True):
    reason: str


CustomerAction = PlaceOrder | CancelOrder


class CustomerMind:
    """One customer with one order: places it, and cancels when his patience ends before pickup."""

    __slots__ = ("_placed", "_settled", "request")

    def __init__(self, request: OrderRequest) -> None:
        self.request = request
        self._placed = False
        self._settled = False

    def settled(self) -> None:
        """The goods are picked up, or the order has ended: nothing is left to cancel."""
        self._settled = True

    def wake_at(self) -> int | None:
        if not self._placed:
            return self.request.at_ms
        return None if self._settled else self.request.cancel_at_ms

    def act(self, now_ms: int) -> list[CustomerAction]:
        """All that is due by now."""
        due = self.wake_at()
        if due is None or due > now_ms:
            return []
        if not self._placed:
            self._placed = True
            return [PlaceOrder(request=self.request)]
        self._settled = True
        return [CancelOrder(reason="waited_too_long")]
