"""The operators' moving map: the whole city once, then what changed, encoded once for all.

May import the mirror and the views.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from api import messages as m
from api.clock import now_ms
from api.gateway.audience import Audience, Fan
from api.gateway.mirror import Mirror, Spot
from api.gateway.views import order_view
from api.settings import CityArea
from dispatch.model import Order, OrderState, Rider
from geo.datum import System, from_wgs84

if TYPE_CHECKING:
    from api.gateway.connection import Connection

Spots = list[tuple[str, Spot]]

# The key in an outbox of the moving riders.
RIDERS = "riders"


class CityMap:
    """Shows each operator the riders on shift and the live orders of his tenant."""

    def __init__(self, city: CityArea, mirror: Mirror, audience: Audience) -> None:
        self._city, self._mirror, self._audience = city, mirror, audience
        # What has not been told yet.
        self._moved: set[str] = set()
        self._left: dict[str, tuple[Rider, Spot]] = {}
        self._orders: dict[str, Order] = {}

    def watch(self, connection: Connection) -> None:
        """Show an operator the city, and from now on what changes."""
        self._audience.operators.add(connection)
        system, tenant = connection.view.system, _tenant(connection)
        lat, lon = from_wgs84(self._city.lat, self._city.lon, system)
        connection.forget(RIDERS)
        connection.tell(
            m.City(
                centre=m.Centre(lat, lon),
                server_ms=now_ms(),
                riders=self._rows(self._on_shift(tenant), system),
                orders=[
                    order_view(order, system)
                    for order in self._mirror.orders()
                    if order.tenant == tenant
                ],
            )
        )

    def load(self) -> None:
        """The mirror was loaded: show it to everyone."""
        for connection in list(self._audience.operators):
            self.watch(connection)

    # --- what changes -------------------------------------------------------------------------

    def rider_changed(self, rider_id: str) -> None:
        """He moved, or has another state."""
        if self._audience.operators and rider_id in self._mirror.riders:
            self._moved.add(rider_id)

    def rider_left(self, rider: Rider) -> None:
        """His shift has ended; to be called before the mirror forgets where he was."""
        spot = self._spot(rider.id)
        if spot is not None:
            self._left[rider.id] = (rider, spot)

    def order_changed(self, order: Order) -> None:
        """The order as it is now; between its first two events it is not anybody's yet."""
        if order.state is not OrderState.QUOTED:
            self._orders[order.id] = order

    def tick(self) -> None:
        """Tell what has changed since the last tick."""
        moved, self._moved = self._moved, set()
        left, self._left = self._left, {}
        orders, self._orders = self._orders, {}
        by_tenant: dict[str, list[Connection]] = {}
        for connection in self._audience.operators:
            by_tenant.setdefault(_tenant(connection), []).append(connection)
        for tenant, connections in by_tenant.items():
            gone = [(rider.id, spot) for rider, spot in left.values() if rider.tenant == tenant]
            self._tell_riders(connections, moved, gone, self._on_shift(tenant))
            own = [order for order in orders.values() if order.tenant == tenant]
            if own:
                fan = Fan(partial(_orders, own))
                for connection in connections:
                    connection.push(fan.frame(connection.view))

    def _tell_riders(
        self, connections: list[Connection], moved: set[str], gone: Spots, whole: Spots
    ) -> None:
        here = [(rider_id, spot) for rider_id, spot in whole if rider_id in moved]
        some, off, everyone = (Fan(partial(self._riders, spots)) for spots in (here, gone, whole))
        for connection in connections:
            if gone:
                connection.push(off.frame(connection.view))
            # What still waits would be replaced by less: such a client gets everyone.
            if connection.waits(RIDERS):
                connection.push_latest(RIDERS, everyone.frame(connection.view))
            elif here:
                connection.push_latest(RIDERS, some.frame(connection.view))

    def _on_shift(self, tenant: str) -> Spots:
        riders = (rider.id for rider in self._mirror.riders.values() if rider.tenant == tenant)
        return [(i, spot) for i in riders if (spot := self._spot(i)) is not None]

    def _riders(self, spots: Spots, system: System) -> m.Riders:
        return m.Riders(server_ms=now_ms(), riders=self._rows(spots, system))

    def _rows(self, spots: Spots, system: System) -> list[m.RiderRow]:
        lats, lons = from_wgs84(
            np.array([spot.lat for _, spot in spots]),
            np.array([spot.lon for _, spot in spots]),
            system,
        )
        return [
            m.RiderRow(
                rider_id,
                lat,
                lon,
                spot.heading_deg,
                self._mirror.rider_state(rider_id),
                spot.at_ms or None,
            )
            for (rider_id, spot), lat, lon in zip(spots, lats.tolist(), lons.tolist(), strict=True)
        ]

    def _spot(self, rider_id: str) -> Spot | None:
        """Where he was last, or began his shift."""
        spot = self._mirror.spot(rider_id)
        rider = self._mirror.riders.get(rider_id)
        if spot is None and rider is not None and rider.place is not None:
            return Spot(0, -1, rider.place.lat, rider.place.lon, None)
        return spot


def _tenant(connection: Connection) -> str:
    claims = connection.session.claims
    assert claims is not None
    return claims.tenant


def _orders(orders: list[Order], system: System) -> m.Orders:
    return m.Orders(orders=[order_view(order, system) for order in orders])
