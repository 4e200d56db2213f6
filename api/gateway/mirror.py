"""A gateway's copy of its city: live orders, riders on shift, positions; folds what it is told.

A projection: it is loaded from the store and the pool and can be loaded again at any time. May
import dispatch, geo and the pool's values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from api.gateway.views import offered_to, rider_serving
from api.pool import FrameRow, Live
from dispatch.lifecycle import ORDER
from dispatch.model import Order, OrderState, Rider
from geo.distance import EARTH_RADIUS_M

# A shorter way tells nothing about the direction.
HEADING_WAY_M = 5.0


class Spot(NamedTuple):
    """A rider's newest position in WGS-84 degrees; `at_ms` is the phone's time."""

    at_ms: int
    seq: int
    lat: float
    lon: float
    heading_deg: float | None


class Mirror:
    """What the gateway knows of its city. Orders leave it when they have ended or are done."""

    def __init__(self) -> None:
        self._orders: dict[str, Order] = {}
        self._of_rider: dict[str, set[str]] = {}
        self._spots: dict[str, Spot] = {}
        self.riders: dict[str, Rider] = {}

    def load(self, orders: Iterable[Order], riders: Iterable[Rider]) -> None:
        """Forget the orders and riders of before and take these."""
        self._orders, self._of_rider = {}, {}
        self.riders = {rider.id: rider for rider in riders}
        for order in orders:
            self.put(order)

    # --- orders -------------------------------------------------------------------------------

    def order(self, order_id: str) -> Order | None:
        """A live order that is not done."""
        return self._orders.get(order_id)

    def orders(self) -> Iterable[Order]:
        """All of them."""
        return self._orders.values()

    def put(self, order: Order) -> None:
        """Take the order as it is now."""
        before = self._orders.pop(order.id, None)
        if before is not None and before.assignment is not None:
            held = self._of_rider[before.assignment.rider_id]
            held.discard(order.id)
            if not held:
                del self._of_rider[before.assignment.rider_id]
        if ORDER.ended(order.state) or order.state is OrderState.DONE:
            return
        self._orders[order.id] = order
        if order.assignment is not None:
            self._of_rider.setdefault(order.assignment.rider_id, set()).add(order.id)

    def orders_of(self, rider_id: str) -> list[Order]:
        """The orders whose live attempt is the rider's, offers included, by id."""
        return [self._orders[i] for i in sorted(self._of_rider.get(rider_id, ()))]

    # --- riders -------------------------------------------------------------------------------

    def rider_state(self, rider_id: str) -> str:
        """busy with an order, offered one, idle on shift, or off."""
        orders = self.orders_of(rider_id)
        if any(rider_serving(order) for order in orders):
            return "busy"
        if rider_id not in self.riders:
            return "off"
        return "offered" if any(offered_to(order) for order in orders) else "idle"

    def leave(self, rider_id: str) -> None:
        """His shift has ended: where he goes now is nobody's business."""
        self.riders.pop(rider_id, None)
        self._spots.pop(rider_id, None)

    # --- positions ----------------------------------------------------------------------------

    def spot(self, rider_id: str) -> Spot | None:
        """His newest position."""
        return self._spots.get(rider_id)

    def move(self, rider_id: str, fix: FrameRow | Live) -> bool:
        """Take a position; False when a newer one is known.

        Where the phone gives no heading it is the direction of the way since the last position.
        """
        before = self._spots.get(rider_id)
        if before is not None and (fix.at_ms, fix.seq) <= (before.at_ms, before.seq):
            return False
        heading = fix.heading_deg
        if heading is None and before is not None:
            heading = _heading(before, fix.lat, fix.lon)
        self._spots[rider_id] = Spot(fix.at_ms, fix.seq, fix.lat, fix.lon, heading)
        return True


def _heading(before: Spot, lat: float, lon: float) -> float | None:
    """Degrees clockwise from north, or as before after too short a way; the earth is flat here."""
    north_m = math.radians(lat - before.lat) * EARTH_RADIUS_M
    east_m = math.radians(lon - before.lon) * EARTH_RADIUS_M * math.cos(math.radians(lat))
    if math.hypot(north_m, east_m) < HEADING_WAY_M:
        return before.heading_deg
    return round(math.degrees(math.atan2(east_m, north_m)) % 360.0, 1)
